"""Parameters by part, in total and as a task activates them."""

from __future__ import annotations

from collections import Counter

from torch import nn

from skillnet_cli.model.parts import activated_parts, part_of
from skillnet_cli.model.skillnet import SkillNet


def parameters_by_part(model: nn.Module) -> dict[str, int]:
    """How many parameters each part has."""
    parts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parts[part_of(name)] += parameter.numel()
    return dict(parts)


def activated_parameters(model: SkillNet, task: str) -> int:
    """How many parameters a task really uses."""
    parts = parameters_by_part(model)
    return sum(parts.get(part, 0) for part in activated_parts(model, task))
