"""Measures one task of a model on one split of a prepared set, by the protocol of the task's objective."""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from skillnet_cli.api import FailedJob, Reader, Task, UserError
from skillnet_cli.data.prepared import PreparedSet, Split, usual_splits
from skillnet_cli.evaluation.metrics import scorer
from skillnet_cli.inference.encoder import inferring
from skillnet_cli.model.device import steady_precision
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import Objective, TaskConfig
from skillnet_cli.pace import advanced
from skillnet_cli.plugins import Registry, resolve
from skillnet_cli.runs import Result

T = TypeVar("T")

EXAMPLES = 6
"""Examples that a result keeps for reports: as many as a reader looks at."""


@runtime_checkable
class Ranks(Protocol):
    """Processes that measure together. Each calls :meth:`gather` equally often, in the same order."""

    @property
    def rank(self) -> int:
        """Which of them this is, counted from 0."""

    @property
    def world(self) -> int:
        """How many there are."""

    def gather(self, value: T) -> list[T]:
        """The values of all ranks in the order of ranks."""


class _Alone:
    """One process that measures by itself."""

    rank, world = 0, 1

    def gather(self, value: T) -> list[T]:
        return [value]


ALONE = _Alone()
"""What measures where nothing is shared."""


def fields_of(task: Task) -> list[str]:
    """The fields that an item needs to be trained on or measured: what the task's skills read, and its target."""
    return [*task.inputs, *filter(None, [task.target])]


def lacking(task: Task, split: Split) -> str:
    """What a task needs and not every item of a split has, in words; empty where nothing is missing."""
    missing = [name for name in fields_of(task) if name not in split.facts.fields]
    has = ", ".join(split.facts.fields) or "nothing"
    return f"has no {' and no '.join(missing)}; it has {has}" if missing else ""


def choose_split(prepared: PreparedSet, part: str | None, task: Task) -> Split:
    """The split of a set that a task is measured on.

    Args:
        prepared: the set.
        part: the split's name; None for the set's usual one that has what the task needs: test, else dev.
        task: what is measured.

    Raises:
        UserError: there is no such split, or its items lack what the task needs; those that have it are named.
    """
    fit = prepared.splits_with(fields_of(task))
    if part is None:
        usual = usual_splits(prepared.manifest.splits)
        chosen = next((name for name in usual if name in fit), usual[0] if usual else None)
        if chosen is None:
            raise UserError(
                f"set '{prepared.name}' has no split 'test' or 'dev': name one of {', '.join(prepared.manifest.splits)}"
                f" with --split {prepared.name}:SPLIT"
            )
        part = chosen
    split = prepared.split(part)
    wrong = lacking(task, split)
    if wrong:
        places = " or ".join(f"--split {prepared.name}:{name}" for name in fit)
        advice = f"measure with {places}" if fit else "no split of the set has that"
        raise UserError(f"task '{task.name}' cannot be measured: {prepared.name}:{part} {wrong}: {advice}")
    return split


def evaluate(
    model: SkillNet,
    readers: Mapping[str, Reader],
    task: TaskConfig,
    split: Split,
    registry: Registry,
    *,
    limit: int | None = None,
    seed: int | None = None,
    whole_pool: bool = True,
    precision: str = "auto",
    batch_size: int | None = None,
    ranks: Ranks = ALONE,
) -> Result:
    """Measure a task on a split, or on some of its items.

    Args:
        model: it has the task, and is the same on all ranks; its mode (training or not) is the same afterwards.
        readers: those of the task's skills, by skill.
        task: what is measured, with the labels that the model knows and the metrics that are wanted.
        split: what it is measured on.
        registry: where metrics come from.
        limit: the most items that are asked about; they are evenly spread over the split. None for all.
        seed: draws the ``limit`` items by chance instead.
        whole_pool: whether those of a retrieval are searched for among all items of the split, or, which takes less
            time and is an easier task, among themselves.
        precision: what the model computes in: ``"bf16"``, ``"fp32"``, or by the rule of the device (``"auto"``,
            :func:`~skillnet_cli.model.device.steady_precision`); it stands in the result's protocol.
        batch_size: the items that the model computes at a time; None leaves it to their tokens.
        ranks: those that share the work; all of them must make the same call, and all have the same result.

    Raises:
        FailedJob: none of the items could be read, or the model's answers are not finite.
        UserError: nothing measures the task's objective, a metric of the task is not installed or does not fit it,
            not every item of the split has what the task needs, or the model knows the target of none.
    """
    protocol = model.objectives[task.name].evaluation
    if protocol is None:
        raise UserError(f"task '{task.name}' cannot be measured: its objective '{task.objective}' has no evaluation")
    wrong = lacking(task, split)
    if wrong:
        raise UserError(f"{split.set_name}:{split.name} {wrong}")
    run: Callable[[Evaluation], Result] = resolve(protocol)
    indices = spread(len(split), limit, seed)
    pool = list(range(len(split))) if whole_pool else indices
    if precision == "auto":
        precision = steady_precision(model.device)
    with inferring(model, precision):
        result = run(Evaluation(model, readers, task, split, indices, pool, registry, precision, batch_size, ranks))
    return replace(result, protocol={**result.protocol, "precision": precision})


@dataclass(frozen=True)
class Evaluation:
    """What a protocol is called with: a model, one of its tasks, and the items that it is measured on.

    Attributes:
        readers: those of the task's skills, by skill.
        indices: the places in the split of the items that are asked about.
        pool: the places of the items among which a retrieval searches; ``indices`` are among them.
        registry: where metrics come from.
        precision: what the model computes in: ``"auto"``, ``"bf16"`` or ``"fp32"``.
        batch_size: the items that it computes at a time; None leaves it to their tokens.
        ranks: those that share the work.
    """

    model: SkillNet
    readers: Mapping[str, Reader]
    task: TaskConfig
    split: Split
    indices: list[int]
    pool: list[int]
    registry: Registry
    precision: str = "auto"
    batch_size: int | None = None
    ranks: Ranks = ALONE

    def share(self, places: Sequence[int]) -> list[int]:
        """This rank's share of some places: every ``world``-th, so that long and short items are shared alike."""
        return list(places[self.ranks.rank :: self.ranks.world])

    def gather(self, values: Iterable[T]) -> list[T]:
        """The values of all ranks, in the order of ranks. All ranks must call this together."""
        return [value for some in self.ranks.gather(list(values)) for value in some]

    @property
    def objective(self) -> Objective:
        """The task's objective, as the model has it."""
        return self.model.objectives[self.task.name]

    def score(self, predictions: list[Any], references: list[Any]) -> dict[str, float]:
        """The task's metrics over predictions; there must be some."""
        figures = {}
        for name in self.task.metrics:
            figures[name] = scorer(name, self.registry)(predictions, references)
            advanced()
        return figures

    def describe_metrics(self) -> dict[str, dict[str, str]]:
        """For each metric what computes it, and the ``NORMALISER`` of texts that its module names, if it names one."""
        found = {}
        for name in self.task.metrics:
            function = scorer(name, self.registry)
            found[name] = {"computed by": f"{function.__module__}:{function.__qualname__}"}
            normaliser = getattr(sys.modules[function.__module__], "NORMALISER", None)
            if normaliser is not None:
                found[name]["normaliser"] = str(normaliser)
        return found

    def unreadable(self, reasons: Iterable[str]) -> FailedJob:
        """The error of an evaluation in which no item could be read; of the reasons it gives the first."""
        why = next((f": {reason}" for reason in reasons), "")
        return FailedJob(
            f"task '{self.task.name}': none of {len(self.indices)} items of {self.split.name} could be read{why}"
        )

    def choose_examples(self, ids: Iterable[str]) -> list[int]:
        """The places, among ``ids``, of the few that a report shows.

        Those with the lowest checksums: a choice that nobody makes, and the same for every model.
        """
        checksums = [(zlib.crc32(id.encode()), place) for place, id in enumerate(ids)]
        return [place for _, place in sorted(checksums)[:EXAMPLES]]

    def result(self, metrics: dict[str, float], **measured: Any) -> Result:
        """The result of this evaluation; ``measured`` are the other attributes of a result."""
        split = self.split
        return Result(self.task.name, split.set_name, split.name, metrics, checksum=split.checksum, **measured)


def spread(size: int, limit: int | None, seed: int | None = None) -> list[int]:
    """The places of the items to look at, in order: all, or ``limit`` of them.

    Args:
        size: how many items there are.
        limit: how many are wanted; None for all.
        seed: draws them by chance; without one they are evenly spread.
    """
    count = size if limit is None else min(limit, size)
    if seed is not None:
        return sorted(random.Random(seed).sample(range(size), count))
    return [place * size // count for place in range(count)]
