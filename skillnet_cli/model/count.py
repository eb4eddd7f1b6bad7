"""Parameters by part, in total and as a task activates them."""

from __future__ import annotations

from collections import Counter

from torch import nn

from skillnet_cli.model.skillnet import SkillNet


def part_of(name: str) -> str:
    """The part a parameter belongs to: ``shared``, ``skill:X``, ``embedder:X`` or ``head:X``."""
    path = name.split(".")
    if path[0] == "embedders":
        return f"embedder:{path[1]}"
    if path[0] == "heads":
        return f"head:{path[1]}"
    if "skills" in path:
        return f"skill:{path[path.index('skills') + 1]}"
    return "shared"


def parameters_by_part(model: nn.Module) -> dict[str, int]:
    """How many parameters each part has."""
    parts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parts[part_of(name)] += parameter.numel()
    return dict(parts)


def activated_parts(model: SkillNet, task: str) -> tuple[str, ...]:
    """The parts that a task uses: the shared one, and its skills, embedders and heads."""
    skills = model.task(task).skills
    heads = model.objectives[task].heads(model.config.hidden)
    return (
        "shared",
        *(f"skill:{skill}" for skill in skills),
        *(f"embedder:{skill}" for skill in skills),
        *(f"head:{head}" for head in heads),
    )


def activated_parameters(model: SkillNet, task: str) -> int:
    """How many parameters a task really uses."""
    parts = parameters_by_part(model)
    return sum(parts.get(part, 0) for part in activated_parts(model, task))
