"""Parts of a model that a stage leaves as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from skillnet_cli.api import UserError
from skillnet_cli.model.count import parameters_by_part
from skillnet_cli.model.parts import activated_parts, head_parts, part_of
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.recipe.mistakes import did_you_mean


def freeze(model: SkillNet, parts: Iterable[str], tasks: Iterable[str]) -> None:
    """Make constants of the parameters of ``parts``: no gradient is computed, kept or communicated for them.

    ``task:T`` means all heads that the task T uses, and with them those of tasks that use the same ones.

    Raises:
        UserError: the model has no such part, or one of ``tasks``, which shall be trained, has nothing left to train.
    """
    frozen = {part for name in parts for part in _meant(model, name)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) not in frozen)
    for task in tasks:
        _check_trainable(model, task, frozen)


def _meant(model: SkillNet, name: str) -> Iterator[str]:
    known = [*parameters_by_part(model), *(f"task:{task}" for task in model.objectives)]
    if name not in known:
        raise UserError(f"freeze: the model has no part '{name}'{did_you_mean(name, known)}")
    kind, _, task = name.partition(":")
    yield from head_parts(model, task) if kind == "task" and task in model.objectives else (name,)


def _check_trainable(model: SkillNet, task: str, frozen: Collection[str]) -> None:
    sizes = parameters_by_part(model)
    if not any(sizes.get(part) and part not in frozen for part in activated_parts(model, task)):
        raise UserError(f"freeze: nothing is left to train for task '{task}': leave one of its parts out of freeze")
