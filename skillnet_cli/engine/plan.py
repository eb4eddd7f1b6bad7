"""What a stage is going to do, and what would go wrong in it: found before its first step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from skillnet_cli import objectives
from skillnet_cli.api import DamagedItem, Reader, Task, UserError
from skillnet_cli.data.prepared import PreparedSet, Split, find_set, is_dev, usual_splits
from skillnet_cli.evaluation.evaluate import fields_of, lacking
from skillnet_cli.evaluation.metrics import scorer
from skillnet_cli.model.build import build_config, build_readers
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.objectives import Objective, TaskConfig, check_target
from skillnet_cli.plugins import Registry
from skillnet_cli.recipe.schema import LastSection, Recipe, Stage, StageTask

TRAIN = "train"
"""The split that is trained on."""
_PROBES = 1_000
"""How many items of a set are searched for labels that the set does not list: about a second for a large one."""


@dataclass(frozen=True)
class TaskPlan:
    """One task of the stage: what the model knows of it, its objective, what the recipe says, and its opened sets."""

    config: TaskConfig
    objective: type[Objective]
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
        """The split of every set on which progress is measured; some sets have none that serves the task."""
        for each in self.sets.values():
            split = self._dev_split(each)
            if split is not None and not lacking(self.config, split):
                yield split

    def unmeasured(self) -> Iterator[str]:
        """The sets on which progress is not measured, with the reason."""
        for name, each in self.sets.items():
            split = self._dev_split(each)
            if split is None:
                yield f"{name} has no split 'dev' (it has {', '.join(each.manifest.splits)})"
            elif wrong := lacking(self.config, split):
                yield f"{name}:{split.name} {wrong}"

    def _dev_split(self, prepared: PreparedSet) -> Split | None:
        found = [name for name in usual_splits(prepared.manifest.splits) if is_dev(name)]
        there = [split for split in map(prepared.split, found) if len(split)]
        return next((split for split in there if not lacking(self.config, split)), there[0] if there else None)

    def problems(
        self, world: int, registry: Registry, *, prepared: bool = True, measured: bool = True
    ) -> Iterator[str]:
        """What cannot work in this task, a line each.

        Args:
            world: the number of processes that train together.
            registry: the installed plugins.
            prepared: whether all its sets are there to be looked at.
            measured: whether its metrics will be asked for.
        """
        batch = self.settings.batch
        if batch % world:
            yield f"batch = {batch} is not divisible by the {world} processes: choose a multiple of {world}"
        if prepared and self.objective.compares:
            yield from self._small_sets()
        if prepared:
            yield from self._unusable_sets()
        if measured:
            yield from self._unmeasurable(registry)

    def _small_sets(self) -> Iterator[str]:
        """Sets that cannot fill their part of one contrastive batch without repeating an item."""
        items = {name: len(s.split(TRAIN)) for name, s in self.sets.items() if TRAIN in s.manifest.splits}
        shares = [(" + ".join(items), sum(items.values()), self.settings.batch)]
        if self.weights is not None:
            parts = [math.ceil(self.settings.batch * weight / sum(self.weights)) for weight in self.weights]
            shares = [(name, items.get(name, 0), part) for name, part in zip(self.sets, parts, strict=True)]
        for name, there, needed in shares:
            if there < needed:
                yield f"{there} training items of {name} are too few for the {needed} in one contrastive batch"

    def _unusable_sets(self) -> Iterator[str]:
        for name, each in self.sets.items():
            missing = [field for field in fields_of(self.config) if field not in each.manifest.fields]
            if missing:
                yield f"data set '{name}' has no {' and no '.join(missing)}; it has {', '.join(each.manifest.fields)}"
            elif TRAIN not in each.manifest.splits:
                yield f"data set '{name}' has no split '{TRAIN}'; it has {', '.join(each.manifest.splits)}"
            elif not len(each.split(TRAIN)):
                yield f"the split '{TRAIN}' of data set '{name}' is empty"
            elif wrong := lacking(self.config, each.split(TRAIN)):
                yield f"the split '{TRAIN}' of data set '{name}' {wrong}"
            elif self.config.target is not None:
                yield from self._unlisted_label(name, each.split(TRAIN))

    def _unlisted_label(self, name: str, split: Split) -> Iterator[str]:
        """The first item, of some spread over the set, that is trained towards something unlisted."""
        target, known = str(self.config.target), set(self.config.labels)
        if not known:
            yield f"data set '{name}' lists no values for '{target}': prepare it again"
            return
        probes = min(_PROBES, len(split))
        for sample in (split[place * len(split) // probes] for place in range(probes)):
            try:
                check_target(self.objective.target_kind, sample.get(target))
            except DamagedItem:
                continue  # counted and replaced when it is read
            unlisted = sorted(self.objective.symbols(sample[target]) - known)
            if unlisted:
                place = f"data set '{name}', item {sample['id']}"
                yield f"{place}: {target} {unlisted[0]!r} is not in the list of {len(known)} labels"
                return

    def _unmeasurable(self, registry: Registry) -> Iterator[str]:
        """An objective without evaluation, or metrics that no installed plugin computes; retrieval has its own."""
        if self.objective.evaluation is None:
            yield f"its objective '{self.config.objective}' has no evaluation: leave the section eval out"
        for name in () if self.objective.compares else self.config.metrics:
            try:
                scorer(name, registry)
            except UserError as error:
                yield str(error)


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

    def check(self, world: int, registry: Registry) -> None:
        """Raises UserError with everything that cannot work, one line each, for training in ``world`` processes."""
        problems = [f"{self.name}.{problem}" for problem in checkpoint_problems(self.stage)]
        problems += [
            f"{self.name}.tasks.{name}: {problem}"
            for name, task in self.tasks.items()
            for problem in task.problems(world, registry, measured=self.stage.eval is not None)
        ]
        if problems:
            raise UserError("\n".join(problems))

    def weight_inheritance(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Which pretraining task's Transformers each fine-tuning task of a separate model starts from.

        That is the first in the recipe that has the same skills, and for every tower of the task a tower that reads
        the tower's skills: ``code-mlm``, which reads text and code in one tower, for both towers of ``t2c``. A task
        that is pretrained itself continues from itself; one without such a task is newly initialised. No other model
        needs any of this: its tasks share what was pretrained.

        Returns:
            For each task the pretraining task, and for each of its towers the place of that one's tower.
        """
        pretrain = self.recipe.pretrain
        starts_there = pretrain is not None and getattr(self.stage, "start_from", None) == "pretrain"
        if self.config.routing != "separate" or pretrain is None or not starts_there:
            return {}
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        for task in (self.config.task(name) for name in self.tasks if name not in pretrain.tasks):
            for source in map(self.config.task, pretrain.tasks):
                towers = [
                    next((place for place, tower in enumerate(source.towers) if set(skills) <= set(tower)), None)
                    for skills in task.towers
                ]
                known = tuple(place for place in towers if place is not None)
                if set(task.skills) == set(source.skills) and len(known) == len(towers):
                    found.setdefault(task.name, (source.name, known))
        return found


def checkpoint_problems(stage: Stage) -> Iterator[str]:
    """What cannot work in a stage's checkpoints, whatever its tasks are."""
    average, kept = stage.average, stage.checkpoints.keep
    if isinstance(average, LastSection) and average.count > kept:
        yield f"average: {average.count} checkpoints are averaged and {kept} are kept: set checkpoints.keep to as many"
    if stage.checkpoints.best and stage.eval is None:
        yield "checkpoints.best: nothing to choose the best from: set eval too"


def plan_stage(recipe: Recipe, name: str, registry: Registry, roots: Sequence[Path]) -> StagePlan:
    """Open all sets and readers of a stage and configure the model of the whole recipe.

    The model has the tasks of both stages, so that fine-tuning continues the very model of pretraining; of the other
    stage's tasks only the label spaces are needed.

    Args:
        recipe: as loaded.
        name: ``"pretrain"`` or ``"finetune"``.
        registry: the installed plugins.
        roots: folders of prepared sets.

    Raises:
        UserError: sets, an asset or a plugin are missing; all sets are named, one a line.
    """
    missing: list[str] = []
    sets: dict[str, dict[str, PreparedSet]] = {}
    for task in recipe.task_names():
        try:
            sets[task] = open_sets(recipe, name, registry.task(task), roots)
        except UserError as error:
            missing += str(error).splitlines()
    if missing:
        raise UserError("\n".join(dict.fromkeys(missing)))
    configs = {task: task_config(registry.task(task), opened) for task, opened in sets.items()}
    readers = build_readers(recipe.model.embedders, registry)
    tasks = {
        task: TaskPlan(
            configs[task],
            objectives.load(configs[task].objective, registry),
            settings,
            {each: sets[task][each] for each in settings.datasets},
        )
        for task, settings in recipe.stages()[name].tasks.items()
    }
    encoder = recipe.model.model_dump(exclude={"embedders"})
    return StagePlan(recipe, name, tasks, readers, build_config(encoder, readers, configs.values(), registry))


def open_sets(recipe: Recipe, stage: str | None, task: Task, roots: Sequence[Path]) -> dict[str, PreparedSet]:
    """A task's sets of a stage, and of the other one if the task has labels, by name.

    Args:
        recipe: names the sets.
        stage: ``"pretrain"``, ``"finetune"``, or None for the sets that labels come from alone.
        task: as its plugin defines it.
        roots: folders of prepared sets.

    Raises:
        UserError: some are missing, unfinished or damaged; all are named, a line each.
    """
    names = [
        name
        for each, section in recipe.stages().items()
        if task.name in section.tasks and (each == stage or task.target is not None)
        for name in section.tasks[task.name].datasets
    ]
    opened: dict[str, PreparedSet] = {}
    missing = []
    for name in dict.fromkeys(names):
        try:
            opened[name] = PreparedSet.open(find_set(name, roots), roots)
        except UserError as error:
            missing.append(str(error))
    if missing:
        raise UserError("\n".join(missing))
    return opened


def task_config(task: Task, sets: Mapping[str, PreparedSet]) -> TaskConfig:
    """The task with the labels of all its sets, in the order of the sets, each once."""
    labels = [label for each in sets.values() for label in each.manifest.targets.get(task.target or "", ())]
    own = {each.name: getattr(task, each.name) for each in fields(Task)}
    return TaskConfig(**own, labels=tuple(dict.fromkeys(labels)), datasets=tuple(sets))
