"""The parts of a model, by the names of its parameters: what a task activates, what a file holds, what is frozen.

A part is ``shared``, ``skill:X``, ``embedder:X`` or ``task:X``. A task's part is its head, and goes by the head's
name: tasks that share a head (masked tokens of one vocabulary, say) share that part. Where tasks are separate, all of
a task is its part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn

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


def name_without_skill(name: str, skill: str) -> str | None:
    """What plugins call a tower's parameter, for one of the skills whose tokens run through the tower.

    Args:
        name: the parameter's name in the tower.
        skill: whose own parameter it is called for.

    Returns:
        ``embedder.NAME`` for one of the skill's embedder, else the name without the skill in it, which is the same
        whether the skill owns the parameter or all share it. None for another skill's parameter.
    """
    path = name.split(".")
    if path[0] == "embedders":
        return ".".join(["embedder", *path[2:]]) if path[1] == skill else None
    if part_of(name) not in (SHARED, f"skill:{skill}"):
        return None
    if "skills" in path:
        at = path.index("skills")
        del path[at : at + 2]
    return ".".join(part for part in path if part != "qkv")  # the projection of all skills stands for each one's own
