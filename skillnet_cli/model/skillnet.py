"""SkillNet: embedders, the routed encoder and the tasks' heads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

from skillnet_cli.api import Batch, Reader
from skillnet_cli.model.build import build_embedders, build_encoder, build_heads, build_networks, build_objectives
from skillnet_cli.model.config import SkillNetConfig, require
from skillnet_cli.model.device import recomputed
from skillnet_cli.model.encoder import Run, direct
from skillnet_cli.model.persistence import PersistenceMixin
from skillnet_cli.model.sequences import Segment, join
from skillnet_cli.model.variants import balanced
from skillnet_cli.objectives import Encoded, Objective, TaskConfig
from skillnet_cli.objectives.base import Loss
from skillnet_cli.objectives.contrastive import comparable
from skillnet_cli.plugins import Registry, load_registry

Outline: TypeAlias = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""The items' vectors, (items, hidden) for each tower, and how each tower used a mixture's experts, if it is one."""


class SkillNet(PersistenceMixin):
    """One model for all installed modalities; a task activates only its skills (paper §3).

    The parts are ``embedders[SKILL]``, ``encoder`` (with ``skills[SKILL]`` in every block's attention) and
    ``heads[NAME]``; with ``routing = "separate"``, ``tasks[TASK]`` has all that a task consists of. A batch of one
    modality is a dict of tensors as the skill's reader collates it.
    """

    config_class = SkillNetConfig
    config: SkillNetConfig

    def __init__(self, config: SkillNetConfig, registry: Registry | None = None) -> None:
        """``registry``: the plugins to build from; the installed ones by default."""
        super().__init__(config)
        registry = registry or load_registry()
        self.objectives = build_objectives(config, registry)
        if config.routing == "separate":
            self.tasks = nn.ModuleDict(build_networks(config, self.objectives, registry))
        else:
            self.embedders = build_embedders(config, registry)
            self.encoder = build_encoder(config)
            self.heads = build_heads(self.objectives, config.hidden)

    def task(self, name: str) -> TaskConfig:
        """A task of this model. Raises UserError where it has none of that name."""
        require("task", name, self.config.tasks or {}, "the model, as it was opened,")
        return self.config.task(name)

    def forward(
        self, task: str, towers: Sequence[Sequence[Batch]], targets: Mapping[str, Tensor], recompute: bool = False
    ) -> Loss:
        """The loss of a batch as (sum, count): the entry for training, where a mixture's balance is part of it.

        Args:
            task: the task's name; it decides which skills are activated.
            towers: for each tower the batches of its segments, in the order of the task's towers.
            targets: what the objective's Targets collated.
            recompute: whether the backward pass computes the layers' activations anew, to save memory.
        """
        objective, encoded = self._objective(task), self._encode_towers(task, towers, recompute)
        loss = objective.loss(encoded, targets, self.heads_of(task), self.towers_of(task)[0].embedders)
        return self._balanced(loss, _usages_of(encoded))

    def outline(
        self, task: str, towers: Sequence[Sequence[Batch]], targets: Mapping[str, Tensor], recompute: bool = False
    ) -> Outline:
        """All that the loss of a :class:`ComparingObjective` sees of a chunk of its batch; arguments as of a forward.

        With :meth:`compare`, the entry for training such a task in two passes.
        """
        encoded = self._encode_towers(task, towers, recompute)
        vectors = self._objective(task).predict(
            encoded, targets, self.heads_of(task), self.towers_of(task)[0].embedders
        )
        return tuple(vectors), _usages_of(encoded)

    def compare(self, task: str, outline: Outline, targets: Mapping[str, Tensor]) -> Loss:
        """The loss of a whole batch, from the outlines of its chunks: vectors one after another, usages added up."""
        vectors, usages = outline
        return self._balanced(self.objectives[task].compare(vectors, targets, self.heads_of(task)), usages)  # type: ignore[attr-defined]

    def _balanced(self, loss: Loss, usages: Sequence[Tensor]) -> Loss:
        return balanced(loss, usages, self.config.balance) if self.training and usages else loss

    def predict(self, task: str, towers: Sequence[Sequence[Batch]], targets: Mapping[str, Tensor] | None = None) -> Any:
        """What the task answers for a batch, as its objective defines it; only masked objectives need targets."""
        objective = self._objective(task)
        encoded = self._encode_towers(task, towers)
        return objective.predict(encoded, targets or {}, self.heads_of(task), self.towers_of(task)[0].embedders)

    def encode(self, skill: str, batch: Batch, task: str | None = None) -> Float[Tensor, "items hidden"]:
        """The vectors by which items are retrieved: the final [CLS], L2-normalised unless ``similarity`` is ``"dot"``.

        Args:
            task: whose tower encodes them, where tasks are separate; all others have one vector for all tasks.

        Raises:
            UserError: the model, as it was opened, does not have the skill.
        """
        require("skill", skill, self.config.skills or {}, "the model, as it was opened,")
        tower: Any = self
        if self.config.routing == "separate":
            assert task is not None, "tasks that share nothing have vectors of their own"
            tower = self.towers_of(task)[self.objectives[task].task.towers.index((skill,))]
        return comparable(encode_tower(tower, (skill,), (batch,)).cls, self.config.similarity)

    def towers_of(self, task: str) -> Sequence[Any]:
        """What encodes each of a task's towers: something with ``embedders`` and an ``encoder``, shared or its own."""
        if self.config.routing == "separate":
            network: Any = self.tasks[task]
            return list(network.towers)
        return [self] * len(self.objectives[task].task.towers)

    def heads_of(self, task: str) -> nn.ModuleDict:
        """The heads among which the task's are: all tasks', or its own."""
        owner: Any = self.tasks[task] if self.config.routing == "separate" else self
        heads: nn.ModuleDict = owner.heads
        return heads

    def _objective(self, task: str) -> Objective:
        require("task", task, self.objectives, "the model, as it was opened,")
        return self.objectives[task]

    def _encode_towers(self, task: str, towers: Sequence[Sequence[Batch]], recompute: bool = False) -> list[Encoded]:
        run = recomputed if recompute else direct
        wanted = zip(self.towers_of(task), self._objective(task).task.towers, towers, strict=True)
        return [encode_tower(tower, skills, batches, run) for tower, skills, batches in wanted]


def encode_tower(tower: Any, skills: Sequence[str], batches: Sequence[Batch], run: Run = direct) -> Encoded:
    """One pass of a tower's encoder over sequences whose segments are of the given skills; ``run`` calls its layers."""
    segments = [Segment(skill, *tower.embedders[skill](batch)) for skill, batch in zip(skills, batches, strict=True)]
    joined = join(segments)
    passed = tower.encoder(joined.tokens, joined.lengths, joined.routes, run)
    tokens, usage = passed if isinstance(passed, tuple) else (passed, None)
    return Encoded(tokens, joined.lengths, joined.cls_rows, joined.rows, usage)


def _usages_of(towers: Sequence[Encoded]) -> tuple[Tensor, ...]:
    """How each tower's mixtures used their experts; nothing where there is no mixture."""
    return tuple(tower.usage for tower in towers if tower.usage is not None)


def load_model(
    folder: str | os.PathLike[str],
    registry: Registry,
    skills: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
) -> tuple[SkillNet, dict[str, Reader]]:
    """Open a saved model, or some of its skills and tasks, and the readers. Raises as SkillNet.from_pretrained does."""
    model = SkillNet.from_pretrained(folder, registry=registry, skills=skills, tasks=tasks)
    return model, dict(model.readers)
