"""From a plan to the batches of every step, read ahead by other processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from torch.utils.data import DataLoader, Dataset

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.data.pipeline import Example, TaskBatch, TaskPipeline
from skillnet_cli.data.sampler import Place, Stream, TaskOrder
from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.engine.plan import StagePlan, TaskPlan
from skillnet_cli.engine.signals import leave_group
from skillnet_cli.plugins import Registry, resolve

MAX_DAMAGED = 100
"""Damaged samples in a row after which something other than samples is wrong."""


class StepDataset(Dataset[list[TaskBatch]]):
    """This rank's micro-batches of every step, a pure function of the seed and the step.

    The global batch of a step is the same whatever the number of ranks; each takes its stride of it, sorts it by
    length and cuts it into equally many micro-batches, so that all ranks have the same number. Holds no open file:
    cheap to copy into loader processes.
    """

    def __init__(
        self,
        order: TaskOrder,
        streams: Mapping[str, Stream],
        pipelines: Mapping[str, TaskPipeline],
        rank: int,
        world: int,
        micro_batch: Mapping[str, int | None],
    ) -> None:
        """Put the parts together; :meth:`of` makes them for a stage.

        Args:
            order: the task of each step.
            streams: each task's samples.
            pipelines: each task's way from samples to batches.
            rank: which stride is this process's.
            world: of how many.
            micro_batch: for each task the most items of a micro-batch, None for the whole share at once.

        Raises:
            UserError: a batch cannot be shared out evenly.
        """
        for task, stream in streams.items():
            if stream.batch % world:
                raise UserError(f"task '{task}': a batch of {stream.batch} is not divisible by {world} processes")
        self._order = order
        self._streams = streams
        self._pipelines = pipelines
        self._rank = rank
        self._world = world
        self._micro_batch = micro_batch

    @classmethod
    def of(cls, plan: StagePlan, registry: Registry, ranks: Ranks) -> StepDataset:
        """The batches of a stage for one of its ranks."""
        seed, tasks = plan.recipe.seed, plan.tasks
        return cls(
            TaskOrder({name: task.settings.ratio for name, task in tasks.items()}, seed),
            {name: Stream(task.splits, task.weights, task.settings.batch, seed) for name, task in tasks.items()},
            {name: task_pipeline(plan, task, registry) for name, task in tasks.items()},
            ranks.rank,
            ranks.world,
            {name: task.settings.micro_batch for name, task in tasks.items()},
        )

    def __getitem__(self, step: int) -> list[TaskBatch]:
        """The micro-batches of a step, counted from 0.

        Raises:
            FailedJob: a hundred samples in a row are damaged, or a shard is.
        """
        task, places = self.places(step)
        position = self._order.position(step)
        slots = range(self._rank, len(places), self._world)
        read = [self._example(task, position, slot, places[slot]) for slot in slots]
        examples = sorted(read, key=lambda each: each.length)  # items of one length in a micro-batch: less padding
        parts = -(-len(examples) // (self._micro_batch.get(task) or len(examples)))
        cuts = np.array_split(np.arange(len(examples)), parts)
        return [self._pipelines[task].batch([examples[place] for place in cut]) for cut in cuts]

    def places(self, step: int) -> tuple[str, list[Place]]:
        """The task of a step, and where in its stream the whole global batch comes from, ranks apart."""
        task = self._order.task(step)
        return task, self._streams[task].items(self._order.position(step))

    def _example(self, task: str, position: int, slot: int, place: Place) -> Example:
        """The example of one slot, or the first of its substitutes that can be read."""
        stream, pipeline = self._streams[task], self._pipelines[task]
        damaged: list[tuple[str, str]] = []
        while len(damaged) < MAX_DAMAGED:
            sample = stream.sample(place)
            try:
                example = pipeline.example(sample, place.epoch)
                return dataclasses.replace(example, damaged=tuple(damaged)) if damaged else example
            except DamagedItem as error:
                place = stream.substitute(position, slot, len(damaged))
                damaged.append((sample["id"], str(error)))
        item, reason = damaged[-1]
        raise FailedJob(f"task '{task}': {MAX_DAMAGED} samples in a row cannot be read, the last is '{item}': {reason}")

    def read_ahead(self, start: int, stop: int, workers: int) -> Iterator[tuple[int, list[TaskBatch]]]:
        """The micro-batches of some steps in order, each with its step, read ahead by other processes.

        Args:
            start: the first step, counted from 0.
            stop: the step behind the last one.
            workers: processes that read ahead; with 0 this one reads, and nothing ahead.

        Raises:
            FailedJob: data is damaged.
        """
        loader: DataLoader[list[TaskBatch] | Exception] = DataLoader(
            _FailuresAsValues(self),
            sampler=range(start, stop),
            batch_size=None,
            num_workers=workers,
            worker_init_fn=leave_group,
        )
        for step, found in zip(range(start, stop), loader, strict=True):
            if isinstance(found, Exception):
                raise found
            yield step, found


def task_pipeline(plan: StagePlan, task: TaskPlan, registry: Registry) -> TaskPipeline:
    """A task's way from samples to batches.

    Args:
        plan: has the readers and the seed.
        task: one of its tasks.
        registry: the installed plugins.
    """
    modalities = [registry.modality(skill) for skill in task.config.skills]
    augments = {each.skill: resolve(each.augment) for each in modalities if each.augment and plan.stage.augment}
    readers = {each.skill: plan.readers[each.skill] for each in modalities}
    targets = task.objective.targets(task.config, readers)
    return TaskPipeline(
        task.config,
        readers,
        targets,
        augments,
        plan.recipe.seed,
        task.objective.compares and plan.stage.mask_duplicates,
    )


class _FailuresAsValues(Dataset[list[TaskBatch] | Exception]):
    """Carries failures out of the loader's processes as values: raised there, they would arrive as tracebacks."""

    def __init__(self, dataset: StepDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, step: int) -> list[TaskBatch] | Exception:
        try:
            return self.dataset[step]
        except (FailedJob, UserError) as error:
            return error


@contextmanager
def worker_errors() -> Iterator[None]:
    """Raises FailedJob where a process that reads ahead is killed, for want of memory for instance.

    The loader raises that wherever the main process happens to be: its handler of SIGCHLD does.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise FailedJob(
            f"a process that reads data died ({str(error).splitlines()[0]}): run it again to resume"
        ) from error
