"""What a protocol is given, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skillnet_cli.api import Reader
from skillnet_cli.data.prepared import Split
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import Registry


@dataclass(frozen=True)
class Work:
    """A model, its readers, one of its tasks, the items at ``indices`` of a split, and where metrics come from.

    ``precision`` is what the model computes in: ``"auto"``, ``"bf16"`` or ``"fp32"``.
    """

    model: SkillNet
    readers: Mapping[str, Reader]
    task: TaskConfig
    split: Split
    indices: list[int]
    registry: Registry
    precision: str = "auto"


@dataclass(frozen=True)
class Findings:
    """What a protocol measured; the attributes are those of :class:`skillnet_cli.evaluation.result.Result`."""

    metrics: dict[str, float]
    items: int
    queries: int
    damaged: int
    protocol: dict[str, Any] = field(default_factory=dict)
    cases: tuple[dict[str, Any], ...] = ()
