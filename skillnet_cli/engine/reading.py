"""From a plan to the batches of every step, read ahead by other processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader, Dataset

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.pipeline import TaskBatch, TaskPipeline
from skillnet_cli.data.sampler import Stream
from skillnet_cli.data.schedule import TaskOrder
from skillnet_cli.data.steps import StepDataset
from skillnet_cli.engine.plan import StagePlan, TaskPlan
from skillnet_cli.engine.ranks.distribution import Ranks
from skillnet_cli.engine.stopping import leave_group
from skillnet_cli.objectives import ComparingObjective, load
from skillnet_cli.plugins import Registry, resolve


def task_order(plan: StagePlan) -> TaskOrder:
    """Which task each step has."""
    return TaskOrder({name: task.settings.ratio for name, task in plan.tasks.items()}, plan.recipe.seed)


def step_dataset(plan: StagePlan, registry: Registry, ranks: Ranks) -> StepDataset:
    """This rank's batches of every step, a pure function of the seed and the step."""
    seed = plan.recipe.seed
    return StepDataset(
        task_order(plan),
        {name: Stream(task.splits, task.weights, task.settings.batch, seed) for name, task in plan.tasks.items()},
        {name: task_pipeline(plan, task, registry) for name, task in plan.tasks.items()},
        ranks.rank,
        ranks.world,
        {name: task.settings.micro_batch for name, task in plan.tasks.items()},
    )


def task_pipeline(plan: StagePlan, task: TaskPlan, registry: Registry) -> TaskPipeline:
    """A task's way from samples to batches."""
    modalities = [registry.modality(skill) for skill in task.config.skills]
    augments = {each.skill: resolve(each.augment) for each in modalities if each.augment}
    readers = {each.skill: plan.readers[each.skill] for each in modalities}
    objective = load(task.config.objective, registry)
    targets, identify = objective.targets(task.config, readers), issubclass(objective, ComparingObjective)
    return TaskPipeline(task.config, readers, targets, augments, plan.recipe.seed, identify)


class _Carrier(Dataset[Any]):
    """Carries failures out of the loader's processes as values: raised there, they would arrive as tracebacks."""

    def __init__(self, dataset: StepDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, step: int) -> list[TaskBatch] | Exception:
        try:
            return self.dataset[step]
        except (FailedJob, UserError) as error:
            return error


def steps(dataset: StepDataset, start: int, stop: int, workers: int) -> Iterator[tuple[int, list[TaskBatch]]]:
    """(step, this rank's micro-batches) of the steps from ``start`` to ``stop``, in order.

    Raises:
        FailedJob: data is damaged.
    """
    loader: DataLoader[Any] = DataLoader(
        _Carrier(dataset),
        sampler=range(start, stop),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=leave_group,
    )
    batches = iter(loader)
    for step in range(start, stop):
        found = next(batches)
        if isinstance(found, Exception):
            raise found
        yield step, found


@contextmanager
def deaths_told() -> Iterator[None]:
    """Raises FailedJob where a process that reads ahead is killed, for want of memory for instance.

    The loader raises that wherever the main process happens to be.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise FailedJob(
            f"a process that reads data died ({str(error).splitlines()[0]}): run it again to go on"
        ) from error
