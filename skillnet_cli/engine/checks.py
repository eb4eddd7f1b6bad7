"""What would go wrong in a stage, found before its first step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from skillnet_cli import objectives
from skillnet_cli.api import UserError
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.engine.plan import TRAIN, StagePlan, TaskPlan
from skillnet_cli.evaluation.metrics import scorer
from skillnet_cli.objectives import ComparingObjective
from skillnet_cli.objectives.classification import Classification
from skillnet_cli.objectives.ctc import Ctc
from skillnet_cli.objectives.masked_units import MaskedUnits
from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe.schema import LastSection, Stage

PROBES = 1_000
"""How many items of a set are looked at for labels that the set itself does not list."""


def check_plan(plan: StagePlan, world: int) -> None:
    """Raises UserError with everything that cannot work, one line each, for training in ``world`` processes."""
    problems = [f"{plan.name}.{problem}" for problem in problems_of_saving(plan.stage)]
    problems += [
        f"{plan.name}.tasks.{name}: {problem}"
        for name, task in plan.tasks.items()
        for problem in problems_of(task, world, measured=plan.stage.eval is not None)
    ]
    if problems:
        raise UserError("\n".join(problems))


def problems_of_saving(stage: Stage) -> Iterator[str]:
    """What cannot work in a stage's checkpoints, whatever its tasks are."""
    average, kept = stage.average, stage.checkpoints.keep
    if isinstance(average, LastSection) and average.count > kept:
        yield f"average: {average.count} checkpoints are averaged and {kept} are kept: set checkpoints.keep to as many"
    if stage.checkpoints.best and stage.eval is None:
        yield "checkpoints.best: the best of nothing: set eval too"


def problems_of(task: TaskPlan, world: int, *, prepared: bool = True, measured: bool = True) -> Iterator[str]:
    """What cannot work in one task.

    Args:
        prepared: whether all its sets are there to be looked at.
        measured: whether its metrics will be asked for.
    """
    if task.settings.batch % world:
        yield f"batch = {task.settings.batch} is not divisible by the {world} processes: choose a multiple of {world}"
    if prepared:
        yield from _check_batch(task)
        yield from _check_sets(task)
    if measured:
        yield from _check_metrics(task)


def _check_metrics(task: TaskPlan) -> Iterator[str]:
    """Metrics that no installed plugin computes; those of a contrastive task are its protocol's."""
    for name in () if _is_contrastive(task) else task.config.metrics:
        try:
            scorer(name, load_registry())
        except UserError as error:
            yield str(error)


def _is_contrastive(task: TaskPlan) -> bool:
    return issubclass(objectives.load(task.config.objective), ComparingObjective)


def _check_batch(task: TaskPlan) -> Iterator[str]:
    if not _is_contrastive(task):
        return
    for name, items, share in _shares(task):
        if items < share:
            yield f"{items} training items of {name} are too few for the {share} in one contrastive batch"


def _shares(task: TaskPlan) -> Iterator[tuple[str, int, int]]:
    """(set, training items, items that one batch takes of it); sets mixed by size count as one."""
    items = {name: len(s.split(TRAIN)) for name, s in task.sets.items() if TRAIN in s.manifest.splits}
    if task.weights is None:
        yield " + ".join(items), sum(items.values()), task.settings.batch
        return
    for name, weight in zip(task.sets, task.weights, strict=True):
        yield name, items.get(name, 0), math.ceil(task.settings.batch * weight / sum(task.weights))


def _check_sets(task: TaskPlan) -> Iterator[str]:
    for name, each in task.sets.items():
        wanted = [*task.config.skills, *filter(None, [task.config.target])]
        missing = [field for field in wanted if field not in each.manifest.fields]
        if missing:
            yield f"data set '{name}' has no {' and no '.join(missing)}; it has {', '.join(each.manifest.fields)}"
        elif TRAIN not in each.manifest.splits:
            yield f"data set '{name}' has no split '{TRAIN}'; it has {', '.join(each.manifest.splits)}"
        elif not len(each.split(TRAIN)):
            yield f"the split '{TRAIN}' of data set '{name}' is empty"
        elif task.config.target is not None:
            yield from _check_labels(task, name, each)


def _check_labels(task: TaskPlan, name: str, opened: PreparedSet) -> Iterator[str]:
    """The first item, of up to PROBES spread over the set, that is trained towards something unlisted."""
    target, known, split = str(task.config.target), set(task.config.labels), opened.split(TRAIN)
    if not known:
        yield f"data set '{name}' lists no values for '{target}': prepare it again"
        return
    probes = min(PROBES, len(split))
    for sample in (split[place * len(split) // probes] for place in range(probes)):
        strange = sorted(_symbols(task, sample[target]) - known)
        if strange:
            yield f"data set '{name}', item {sample['id']}: {target} {strange[0]!r} is none of the {len(known)} listed"
            return


def _symbols(task: TaskPlan, value: Any) -> set[str]:
    """What the task's objective must find among the labels; other objectives check for themselves."""
    objective = objectives.load(task.config.objective)
    if issubclass(objective, Classification):
        return {value}
    if issubclass(objective, (Ctc, MaskedUnits)):
        return {str(symbol) for symbol in value}
    return set()
