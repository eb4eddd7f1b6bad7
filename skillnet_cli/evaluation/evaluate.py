"""Measures one task of a model on one split of a prepared set, by the protocol of the task's objective."""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from skillnet_cli.api import FailedJob, Reader, UserError
from skillnet_cli.data.prepared import Split
from skillnet_cli.evaluation.metrics import scorer
from skillnet_cli.inference.encoder import inferring
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import Objective, TaskConfig
from skillnet_cli.plugins import Registry, resolve
from skillnet_cli.runs import Result

EXAMPLES = 6
"""Examples that a result keeps for reports: as many as a reader looks at."""


def evaluate(
    model: SkillNet,
    readers: Mapping[str, Reader],
    task: TaskConfig,
    split: Split,
    registry: Registry,
    *,
    limit: int | None = None,
    seed: int | None = None,
    precision: str = "auto",
) -> Result:
    """Measure a task on a split, or on some of its items.

    Args:
        model: it has the task; its mode (training or not) is the same afterwards.
        readers: those of the task's skills, by skill.
        task: what is measured, with the labels that the model knows and the metrics that are wanted.
        split: what it is measured on.
        registry: where metrics come from.
        limit: the most items; they are evenly spread over the split. None for all.
        seed: draws the ``limit`` items by chance instead.
        precision: what the model computes in: the hardware's own (``"auto"``), ``"bf16"`` or ``"fp32"``.

    Raises:
        FailedJob: none of the items could be read, or the model's answers are not finite.
        UserError: nothing measures the task's objective, or a metric of the task is not installed or does not fit it,
            or not every item of the split has what the task's skills read.
    """
    protocol = model.objectives[task.name].evaluation
    if protocol is None:
        raise UserError(f"task '{task.name}' cannot be measured: its objective '{task.objective}' has no evaluation")
    missing = [name for name in task.skills if name not in split.facts.fields]
    if missing:
        has = ", ".join(split.facts.fields) or "nothing"
        raise UserError(f"{split.set_name}:{split.name} has no {' and no '.join(missing)}; it has {has}")
    run: Callable[[Evaluation], Result] = resolve(protocol)
    indices = spread(len(split), limit, seed)
    with inferring(model, precision):
        return run(Evaluation(model, readers, task, split, indices, registry, precision))


@dataclass(frozen=True)
class Evaluation:
    """What a protocol is called with: a model, one of its tasks, and the items that it is measured on.

    Attributes:
        readers: those of the task's skills, by skill.
        indices: the places of the items in the split.
        registry: where metrics come from.
        precision: what the model computes in: ``"auto"``, ``"bf16"`` or ``"fp32"``.
    """

    model: SkillNet
    readers: Mapping[str, Reader]
    task: TaskConfig
    split: Split
    indices: list[int]
    registry: Registry
    precision: str = "auto"

    @property
    def objective(self) -> Objective:
        """The task's objective, as the model has it."""
        return self.model.objectives[self.task.name]

    def score(self, predictions: list[Any], references: list[Any]) -> dict[str, float]:
        """The task's metrics over predictions; there must be some."""
        return {name: scorer(name, self.registry)(predictions, references) for name in self.task.metrics}

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
        return Result(self.task.name, self.split.set_name, self.split.name, metrics, **measured)


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
