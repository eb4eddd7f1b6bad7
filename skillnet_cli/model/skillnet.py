"""SkillNet: embedders, the routed encoder and the tasks' heads, as a transformers model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from skillnet_cli.api import Batch
from skillnet_cli.model.build import build_embedders, build_encoder, build_heads, build_objectives
from skillnet_cli.model.choosing import require
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.saved_by_part import SavedByPart
from skillnet_cli.model.sequences import Segment, join
from skillnet_cli.objectives import Encoded, Objective, TaskConfig
from skillnet_cli.objectives.base import Loss
from skillnet_cli.plugins import Registry, load_registry


class SkillNet(SavedByPart):
    """One model for all installed modalities; a task activates only its skills (paper §3).

    The parts are ``embedders[SKILL]``, ``encoder`` (with ``skills[SKILL]`` in every block's attention) and
    ``heads[NAME]``. A batch of one modality is a dict of tensors as the skill's reader collates it.
    """

    config_class = SkillNetConfig
    config: SkillNetConfig

    def __init__(self, config: SkillNetConfig, registry: Registry | None = None) -> None:
        """``registry``: the plugins to build from; the installed ones by default."""
        super().__init__(config)
        self.embedders = build_embedders(config, registry or load_registry())
        self.encoder = build_encoder(config)
        self.objectives = build_objectives(config)
        self.heads = build_heads(self.objectives, config.hidden)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: every part has initialised itself when it was built."""

    def task(self, name: str) -> TaskConfig:
        """A task of this model. Raises UserError where it has none of that name."""
        require("task", name, self.config.tasks or {}, "the model, as it was opened,")
        return self.config.task(name)

    def forward(self, task: str, towers: Sequence[Sequence[Batch]], targets: Mapping[str, Tensor]) -> Loss:
        """The loss of a batch as (sum, count): the one entry for training.

        Args:
            task: the task's name; it decides which skills are activated.
            towers: for each tower the batches of its segments, in the order of the task's towers.
            targets: what the objective's Targets collated.
        """
        objective = self._objective(task)
        return objective.loss(self._encode_towers(task, towers), targets, self.heads, self.embedders)

    def predict(self, task: str, towers: Sequence[Sequence[Batch]], targets: Mapping[str, Tensor] | None = None) -> Any:
        """What the task answers for a batch, as its objective defines it; only masked objectives need targets."""
        objective = self._objective(task)
        encoded = self._encode_towers(task, towers)
        return objective.predict(encoded, targets or {}, self.heads, self.embedders)

    def encode(self, skill: str, batch: Batch) -> Float[Tensor, "items hidden"]:
        """The vectors by which items are retrieved: the final [CLS], L2-normalised (design: no projection head)."""
        return F.normalize(self.encode_tower((skill,), (batch,)).cls.float(), dim=-1)

    def encode_tower(self, skills: Sequence[str], batches: Sequence[Batch]) -> Encoded:
        """One encoder pass over sequences whose segments are of the given skills.

        Raises:
            UserError: the model, as it was opened, does not have one of them.
        """
        for skill in skills:
            require("skill", skill, self.config.skills or {}, "the model, as it was opened,")
        segments = [Segment(skill, *self.embedders[skill](batch)) for skill, batch in zip(skills, batches, strict=True)]
        joined = join(segments)
        tokens = self.encoder(joined.tokens, joined.lengths, joined.routes)
        return Encoded(tokens, joined.lengths, joined.cls_rows, joined.rows)

    def _objective(self, task: str) -> Objective:
        require("task", task, self.objectives, "the model, as it was opened,")
        return self.objectives[task]

    def _encode_towers(self, task: str, towers: Sequence[Sequence[Batch]]) -> list[Encoded]:
        wanted = self.objectives[task].task.towers
        return [self.encode_tower(skills, batches) for skills, batches in zip(wanted, towers, strict=True)]
