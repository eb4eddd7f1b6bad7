"""The parts of a model, by the names of its parameters: what a task activates, what a file holds, what is frozen.

A part is ``shared``, ``skill:X``, ``embedder:X`` or ``task:X``. A task's part is its head, and goes by the head's
name: tasks that share a head (masked tokens of one vocabulary, say) share that part. Where tasks are separate, all of
a task is its part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from skillnet_cli.model.skillnet import SkillNet


SHARED = "shared"


def part_of(name: str) -> str:
    """The part that the parameter ``name`` belongs to."""
    path = name.split(".")
    if path[0] == "tasks":
        return f"task:{path[1]}"
    if path[0] == "embedders":
        return f"embedder:{path[1]}"
    if path[0] == "heads":
        return f"task:{path[1]}"
    if "skills" in path:
        return f"skill:{path[path.index('skills') + 1]}"
    return SHARED


def activated_parts(model: SkillNet, task: str) -> tuple[str, ...]:
    """The parts that a task uses: the shared one, its skills, embedders and heads; its own alone if it is separate."""
    if model.config.routing == "separate":
        return head_parts(model, task)
    skills = model.task(task).skills
    return (
        SHARED,
        *(f"skill:{skill}" for skill in skills if model.config.routing == "skill"),
        *(f"embedder:{skill}" for skill in skills),
        *head_parts(model, task),
    )


def head_parts(model: SkillNet, task: str) -> tuple[str, ...]:
    """The parts of a task's heads, which may be other tasks' too; all of the task if it is separate."""
    if model.config.routing == "separate":
        return (f"task:{task}",)
    return tuple(f"task:{head}" for head in model.objectives[task].heads(model.config.hidden))


def members(model: nn.Module, kind: str) -> Iterator[nn.Module]:
    """The modules that ``"skills"``, ``"heads"`` or ``"embedders"`` stand for, by the names that parts go by.

    What a plugin's embedder or an objective's head has inside is theirs, whatever they call it.
    """
    for name, module in model.named_modules():
        *path, last = name.split(".")
        if last == kind and not {"embedders", "heads"} & set(path):
            yield from module.children()


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
