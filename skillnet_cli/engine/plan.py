"""What a stage is going to do, and what would go wrong in it: found before its first step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from skillnet_cli import objectives
from skillnet_cli.api import Reader, Task, UserError
from skillnet_cli.data.prepared import PreparedSet, Split, find_set
from skillnet_cli.evaluation.metrics import scorer
from skillnet_cli.model.build import build_config, build_readers
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.objectives import Objective, TaskConfig
from skillnet_cli.plugins import Registry, load_registry
from skillnet_cli.recipe.schema import LastSection, Recipe, Stage, StageTask

TRAIN, DEV = "train", ("dev", "validation")


@dataclass(frozen=True)
class TaskPlan:
    """One task of the stage: what the model knows of it, what the recipe says, and its opened sets."""

    config: TaskConfig
    settings: StageTask
    sets: Mapping[str, PreparedSet]

    @property
    def objective(self) -> type[Objective]:
        """The class of the task's objective."""
        return objectives.load(self.config.objective)

    @property
    def splits(self) -> list[Split]:
        """The training split of every set."""
        return [each.split(TRAIN) for each in self.sets.values()]

    @property
    def weights(self) -> list[float] | None:
        """How the sets are mixed; None means by size."""
        weights = [weight for weight in self.settings.datasets.values() if weight is not None]
        return weights or None

    def dev_splits(self) -> Iterator[Split]:
        """The split of every set on which progress is measured, by either of its names; some sets have none."""
        for each in self.sets.values():
            found = [name for name in DEV if name in each.manifest.splits]
            if found:
                yield each.split(found[0])


@dataclass(frozen=True)
class StagePlan:
    """A stage ready to be checked and trained. ``data`` is what a checkpoint keeps of the state of its sets."""

    recipe: Recipe
    name: str
    tasks: Mapping[str, TaskPlan]
    readers: Mapping[str, Reader]
    config: SkillNetConfig
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> Stage:
        """The stage's section of the recipe."""
        return self.recipe.stages()[self.name]


def plan_stage(recipe: Recipe, name: str, registry: Registry, roots: Sequence[Path]) -> StagePlan:
    """Open all sets and readers of a stage and configure the model of the whole recipe.

    The model has the tasks of both stages, so that fine-tuning continues the very model of pretraining; of the other
    stage's tasks only the label spaces are needed.

    Raises:
        UserError: sets, an asset or a plugin are missing; all sets are named, one a line.
    """
    missing: list[str] = []
    sets = {task: _open(recipe, name, registry.task(task), roots, missing) for task in recipe.task_names()}
    if missing:
        raise UserError("\n".join(dict.fromkeys(missing)))
    configs = {task: task_config(registry.task(task), opened) for task, opened in sets.items()}
    readers = build_readers(recipe.model.embedders, registry)
    tasks = {
        task: TaskPlan(configs[task], settings, {each: sets[task][each] for each in settings.datasets})
        for task, settings in recipe.stages()[name].tasks.items()
    }
    return StagePlan(
        recipe, name, tasks, readers, build_config(encoder_keys(recipe), readers, configs.values(), registry)
    )


def encoder_keys(recipe: Recipe) -> dict[str, Any]:
    """What ``[model]`` says of the encoder: the keys of its configuration."""
    return recipe.model.model_dump(exclude={"embedders"})


def _open(recipe: Recipe, stage: str, task: Task, roots: Sequence[Path], missing: list[str]) -> dict[str, PreparedSet]:
    """As :func:`open_sets`, what is wrong added to ``missing``."""
    opened = {}
    for name in _set_names(recipe, stage, task):
        try:
            opened[name] = PreparedSet.open(find_set(name, roots))
        except UserError as error:
            missing.append(str(error))
    return opened


def open_sets(recipe: Recipe, stage: str | None, task: Task, roots: Sequence[Path]) -> dict[str, PreparedSet]:
    """A task's sets of this stage, and of the other one if the task has labels, by name.

    Raises:
        UserError: one is missing, unfinished or damaged.
    """
    return {name: PreparedSet.open(find_set(name, roots)) for name in _set_names(recipe, stage, task)}


def _set_names(recipe: Recipe, stage: str | None, task: Task) -> list[str]:
    """The names of a task's sets of this stage, and of the other one if the task has labels, each once."""
    names = [
        name
        for each, section in recipe.stages().items()
        if task.name in section.tasks and (each == stage or task.target is not None)
        for name in section.tasks[task.name].datasets
    ]
    return list(dict.fromkeys(names))


def task_config(task: Task, sets: Mapping[str, PreparedSet]) -> TaskConfig:
    """The task with the labels of all its sets, in the order of the sets, each once."""
    labels = [label for each in sets.values() for label in each.manifest.targets.get(task.target or "", ())]
    own = {each.name: getattr(task, each.name) for each in fields(Task)}
    return TaskConfig(**own, labels=tuple(dict.fromkeys(labels)), datasets=tuple(sets))


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
    """Nothing that measures the task, or metrics that no installed plugin computes; retrieval computes its own."""
    if task.objective.evaluation is None:
        yield f"its objective '{task.config.objective}' has no evaluation: leave the section eval out"
    for name in () if task.objective.compares else task.config.metrics:
        try:
            scorer(name, load_registry())
        except UserError as error:
            yield str(error)


def _check_batch(task: TaskPlan) -> Iterator[str]:
    if not task.objective.compares:
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
        strange = sorted(task.objective.symbols(sample[target]) - known)
        if strange:
            yield (
                f"data set '{name}', item {sample['id']}: {target} {strange[0]!r} is not in the list of "
                f"{len(known)} labels"
            )
            return
