"""From a plan to the batches of every step, read ahead by other processes."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import DataLoader

from skillnet_cli.api import FailedJob
from skillnet_cli.data.pipeline import TaskBatch, TaskPipeline
from skillnet_cli.data.sampler import Stream
from skillnet_cli.data.schedule import TaskOrder
from skillnet_cli.data.steps import StepDataset
from skillnet_cli.engine.distribution import Ranks
from skillnet_cli.engine.plan import StagePlan, TaskPlan
from skillnet_cli.engine.stopping import ignore_signals
from skillnet_cli.objectives import load
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
        {name: _pipeline(plan, task, registry) for name, task in plan.tasks.items()},
        ranks.rank,
        ranks.world,
        {name: task.settings.micro_batch for name, task in plan.tasks.items()},
    )


def _pipeline(plan: StagePlan, task: TaskPlan, registry: Registry) -> TaskPipeline:
    modalities = [registry.modality(skill) for skill in task.config.skills]
    augments = {each.skill: resolve(each.augment) for each in modalities if each.augment}
    readers = {each.skill: plan.readers[each.skill] for each in modalities}
    targets = load(task.config.objective).targets(task.config, readers)
    return TaskPipeline(task.config, readers, targets, augments, plan.recipe.seed)


def steps(dataset: StepDataset, start: int, stop: int, workers: int) -> Iterator[tuple[int, list[TaskBatch]]]:
    """(step, this rank's micro-batches) of the steps from ``start`` to ``stop``, in order.

    Raises:
        FailedJob: a process that reads ahead was killed, for want of memory for instance.
    """
    loader: DataLoader[list[TaskBatch]] = DataLoader(
        dataset,
        sampler=range(start, stop),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=ignore_signals,
    )
    batches = iter(loader)
    for step in range(start, stop):
        try:
            yield step, next(batches)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise FailedJob(f"step {step + 1}: a process that reads data died: {error}") from error
