"""The configuration of a SkillNet as its ``config.json`` keeps it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar, no_type_check

from transformers import PretrainedConfig

from skillnet_cli.objectives import TaskConfig


@no_type_check  # transformers makes its configurations dataclasses that take more than their fields
class SkillNetConfig(PretrainedConfig):
    """Sizes and variants of the encoder, the skills and the tasks.

    Attributes:
        layers, hidden, heads, ffn: the encoder's sizes (paper: 12, 768, 12, 3072).
        norm: ``"pre"`` (CLIP) or ``"post"`` (BERT).
        activation: ``"quick_gelu"`` or ``"gelu"``.
        similarity: of two vectors: ``"cosine"``, for which they are made one long, or ``"dot"`` (paper §3.2).
        dropout: on the outputs of attention and feed-forward network, in training.
        routing: ``"skill"`` (the paper's SkillNet), or a system it is compared with: ``"dense"``, ``"moe"``,
            ``"separate"``.
        routed: with ``"skill"``: which modules every skill owns, ``"qkv"`` and more.
        balance: with ``"moe"``: the weight of the balance loss.
        experts: with ``"moe"``: how many feed-forward networks a layer has.
        skills: skill -> ``{"plugin": distribution, "version": …, "embedder": the embedder's configuration}``.
        tasks: task -> the fields of :class:`skillnet_cli.objectives.TaskConfig`.
    """

    model_type: ClassVar[str] = "skillnet"

    layers: int = 12
    hidden: int = 768
    heads: int = 12
    ffn: int = 3072
    norm: str = "pre"
    activation: str = "quick_gelu"
    similarity: str = "cosine"
    dropout: float = 0.0
    routing: str = "skill"
    routed: list[str] | tuple[str, ...] = ("qkv",)
    balance: float = 0.01
    experts: int = 0
    skills: dict[str, Any] | None = None
    tasks: dict[str, Any] | None = None

    def task(self, name: str) -> TaskConfig:
        """A task of this model. Raises KeyError where it has none of that name."""
        fields = dict((self.tasks or {})[name])
        fields["towers"] = tuple(tuple(tower) for tower in fields["towers"])
        for key in ("metrics", "labels", "datasets"):
            fields[key] = tuple(fields[key])
        return TaskConfig(**fields)


def task_fields(task: TaskConfig) -> dict[str, Any]:
    """A task as JSON can hold it; :meth:`SkillNetConfig.task` reads it back."""
    return asdict(task)
