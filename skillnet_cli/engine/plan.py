"""What a stage is going to do: its tasks with their sets and labels, the readers and the model's configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from skillnet_cli.api import Reader, Task, UserError
from skillnet_cli.data.prepared import PreparedSet, Split, find_set
from skillnet_cli.model.build import build_config, build_readers
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import Registry
from skillnet_cli.recipe.schema import Recipe, Stage, StageTask

TRAIN, DEV = "train", ("dev", "validation")


@dataclass(frozen=True)
class TaskPlan:
    """One task of the stage: what the model knows of it, what the recipe says, and its opened sets."""

    config: TaskConfig
    settings: StageTask
    sets: Mapping[str, PreparedSet]

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
    for name in set_names(recipe, stage, task):
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
    return {name: PreparedSet.open(find_set(name, roots)) for name in set_names(recipe, stage, task)}


def set_names(recipe: Recipe, stage: str | None, task: Task) -> list[str]:
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
