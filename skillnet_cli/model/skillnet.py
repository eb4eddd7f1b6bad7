"""SkillNet: embedders, the routed encoder and the tasks' heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from jaxtyping import Float
from torch import Tensor, nn

from skillnet_cli import objectives
from skillnet_cli.api import Batch
from skillnet_cli.model.build import build_network
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.parts import SHARED, parameters_by_part
from skillnet_cli.model.persistence import PersistenceMixin
from skillnet_cli.model.sequences import Tower
from skillnet_cli.model.variants import TaskNetwork, balanced
from skillnet_cli.objectives import ComparingObjective, Encoded, Objective, TaskConfig
from skillnet_cli.objectives.base import Loss
from skillnet_cli.objectives.contrastive import comparable
from skillnet_cli.plugins import Registry, load_registry, require


class Embeddings(NamedTuple):
    """All that the loss of a :class:`ComparingObjective` sees of a batch, or of a chunk of it.

    Attributes:
        vectors: the items' vectors, (items, hidden) for each tower.
        usages: how each tower used a mixture's experts; empty where the model has no mixture.
    """

    vectors: tuple[Tensor, ...]
    usages: tuple[Tensor, ...]


class SkillNet(PersistenceMixin):
    """One model for all installed modalities; a task activates only its skills (paper §3).

    The parts are ``embedders[SKILL]``, ``encoder`` (with ``skills[SKILL]`` in every block's attention) and
    ``heads[NAME]``. With ``routing = "separate"`` there are none of these: ``tasks[TASK]`` has all that a task consists
    of. A batch of one modality is a dict of tensors as the skill's reader collates it.
    """

    config_class = SkillNetConfig
    config: SkillNetConfig

    def __init__(self, config: SkillNetConfig, registry: Registry | None = None) -> None:
        """``registry``: the plugins to build from; the installed ones by default."""
        super().__init__(config)
        registry = registry or load_registry()
        self.objectives = {
            task.name: objectives.load(task.objective, registry)(task, config.similarity)
            for task in map(config.task, config.tasks)
        }
        self.tasks = nn.ModuleDict()
        if config.routing == "separate":
            for name, objective in self.objectives.items():
                towers, place = objective.task.towers, f"tasks.{name}."
                self.tasks[name] = build_network(config, {name: objective}, towers, registry, place)
        else:
            network = build_network(config, self.objectives, [config.skills], registry)
            (tower,) = cast("list[Tower]", list(network.towers))
            self.embedders = tower.embedders
            self.encoder = tower.encoder
            self.heads = network.heads

    def forward(
        self, task: str, towers: Sequence[Sequence[Batch]], targets: Mapping[str, Tensor], recompute: bool = False
    ) -> Loss:
        """The loss of a batch as (sum, count): the entry for training, where a mixture's balance is part of it.

        Args:
            task: the task's name; it decides which skills are activated.
            towers: for each tower the batches of its segments, in the order of the task's towers.
            targets: what the objective's Targets collated.
            recompute: whether the backward pass recomputes the layers' activations, to save memory.

        Raises:
            UserError: the model, as it was opened, does not have the task.
        """
        objective = self._objective(task)
        encoded = [tower(skills, batches, recompute) for tower, skills, batches in self._passes(task, towers)]
        loss = objective.loss(encoded, targets, self.heads_of(task), self.towers_of(task)[0].embedders)
        return self._balanced(loss, _usages_of(encoded))

    def encode_batch(
        self, task: str, towers: Sequence[Sequence[Batch]], targets: Mapping[str, Tensor], recompute: bool = False
    ) -> Embeddings:
        """Encode a chunk of a batch whose items are compared: what GradCache does in both its passes.

        The first pass encodes every chunk without gradients, :meth:`contrastive_loss` of all their embeddings gives
        the gradient of each, and the second pass encodes every chunk again and carries that gradient on. Arguments
        are those of :meth:`forward`.
        """
        objective = self._objective(task)
        encoded = [tower(skills, batches, recompute) for tower, skills, batches in self._passes(task, towers)]
        vectors = objective.predict(encoded, targets, self.heads_of(task), self.towers_of(task)[0].embedders)
        return Embeddings(tuple(vectors), _usages_of(encoded))

    def contrastive_loss(self, task: str, embeddings: Embeddings, targets: Mapping[str, Tensor]) -> Loss:
        """The loss of a whole batch as (sum, count), from the embeddings of all its items.

        Args:
            task: one whose objective is a :class:`ComparingObjective`.
            embeddings: those of the batch's chunks, their vectors one after another and their usages added up.
            targets: those of the whole batch.
        """
        objective = self._objective(task)
        assert isinstance(objective, ComparingObjective), f"the objective of {task} does not compare items"
        return self._balanced(objective.compare(embeddings.vectors, targets, self.heads_of(task)), embeddings.usages)

    def _balanced(self, loss: Loss, usages: Sequence[Tensor]) -> Loss:
        return balanced(loss, usages, self.config.balance) if self.training and usages else loss

    def predict(self, task: str, towers: Sequence[Sequence[Batch]], targets: Mapping[str, Tensor] | None = None) -> Any:
        """What the task answers for a batch, as its objective defines it; only masked objectives need targets."""
        objective = self._objective(task)
        encoded = [tower(skills, batches) for tower, skills, batches in self._passes(task, towers)]
        return objective.predict(encoded, targets or {}, self.heads_of(task), self.towers_of(task)[0].embedders)

    def encode(self, skill: str, batch: Batch, task: str | None = None) -> Float[Tensor, "items hidden"]:
        """The vectors by which items are retrieved: the final [CLS], L2-normalised unless ``similarity`` is ``"dot"``.

        Args:
            skill: the items' skill.
            batch: the items, as the skill's reader collates them.
            task: whose tower encodes them, where tasks are separate; all others have one vector for all tasks.

        Raises:
            UserError: the model, as it was opened, does not have the skill.
        """
        require("skill", skill, self.config.skills, "the model, as it was opened,")
        if self.tasks:
            assert task is not None, "tasks that share nothing have vectors of their own"
            tower = self.towers_of(task)[self.objectives[task].task.towers.index((skill,))]
        else:
            tower = self.tower
        return comparable(tower((skill,), (batch,)).cls, self.config.similarity)

    def task(self, name: str) -> TaskConfig:
        """A task of this model. Raises UserError where it has none of that name."""
        require("task", name, self.config.tasks, "the model, as it was opened,")
        return self.config.task(name)

    @property
    def tower(self) -> Tower:
        """The tower that all tasks share; there is none where tasks are separate."""
        # Created on every access (microseconds): as a module of its own it would give every parameter its name.
        return Tower(self.embedders, self.encoder)

    def towers_of(self, task: str) -> list[Tower]:
        """What encodes each of a task's towers: its own where tasks are separate, else the shared one every time."""
        if task in self.tasks:
            return cast("list[Tower]", list(self._network(task).towers))
        return [self.tower] * len(self.objectives[task].task.towers)

    def heads_of(self, task: str) -> nn.ModuleDict:
        """The heads among which the task's are: all tasks', or its own."""
        return self._network(task).heads if task in self.tasks else self.heads

    def head_parts(self, task: str) -> tuple[str, ...]:
        """The parts of a task's heads, which may be other tasks' too; all of the task if it is separate."""
        if task in self.tasks:
            return (f"task:{task}",)
        return tuple(f"task:{head}" for head in self.objectives[task].heads(self.config.hidden))

    def activated_parts(self, task: str) -> tuple[str, ...]:
        """The parts that a task uses: the shared one, its skills, embedders and heads; if it is separate, its own."""
        if task in self.tasks:
            return self.head_parts(task)
        skills, parts = self.task(task).skills, parameters_by_part(self)
        projections = [f"skill:{skill}" for skill in skills if f"skill:{skill}" in parts]  # a dense model has none
        return (SHARED, *projections, *(f"embedder:{skill}" for skill in skills), *self.head_parts(task))

    def activated_parameters(self, task: str) -> int:
        """How many parameters a task really uses."""
        parts = parameters_by_part(self)
        return sum(parts.get(part, 0) for part in self.activated_parts(task))

    def _network(self, task: str) -> TaskNetwork:
        return cast(TaskNetwork, self.tasks[task])

    def _objective(self, task: str) -> Objective:
        require("task", task, self.objectives, "the model, as it was opened,")
        return self.objectives[task]

    def _passes(
        self, task: str, towers: Sequence[Sequence[Batch]]
    ) -> Iterator[tuple[Tower, Sequence[str], Sequence[Batch]]]:
        """For each of a task's towers what encodes it, and its segments' skills and batches."""
        return zip(self.towers_of(task), self._objective(task).task.towers, towers, strict=True)


def _usages_of(towers: Sequence[Encoded]) -> tuple[Tensor, ...]:
    """How each tower's mixtures used their experts; nothing where there is no mixture."""
    return tuple(tower.usage for tower in towers if tower.usage is not None)
