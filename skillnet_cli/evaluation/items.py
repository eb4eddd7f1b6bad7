"""What a protocol is given: the items of a split without chance or augmentation, damaged ones counted, and metrics."""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from skillnet_cli.api import Batch, DamagedItem, FailedJob, Features, Reader
from skillnet_cli.data.prepared import Split
from skillnet_cli.inference.encoder import by_length, to_device
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import Registry, resolve

LOSS = "loss"
"""The figure of tasks that are measured by how well they fill in what is hidden; it is no metric of a plugin."""

Scorer: TypeAlias = "Callable[[Sequence[Any], Sequence[Any]], float]"
"""(predictions, references) -> figure."""


def accuracy(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """The share of predictions that equal their reference. Raises FailedJob where there is none."""
    if not references:
        raise FailedJob("there is nothing to measure accuracy with")
    right = sum(prediction == reference for prediction, reference in zip(predictions, references, strict=True))
    return right / len(references)


def scorer(name: str, registry: Registry) -> Scorer:
    """The metric of that name, or of that ``"module:attribute"``. Raises UserError where no plugin brings it."""
    if name == "accuracy":
        return accuracy
    if ":" in name:
        registry.check_brought("metric", name)
    found: Scorer = resolve(name if ":" in name else registry.metric(name).compute)
    return found


def higher_is_better(name: str, registry: Registry) -> bool:
    """Whether a larger figure is the better one: as the metric's plugin says; not for a loss; else yes."""
    known = registry.metrics.get(name)
    return known.value.higher_is_better if known is not None else name != LOSS


def described(name: str, registry: Registry) -> dict[str, str]:
    """What computes a metric, and the ``NORMALISER`` that its module says it puts texts through, if it says so."""
    function = scorer(name, registry)
    facts = {"computed by": f"{function.__module__}:{function.__qualname__}"}
    normaliser = getattr(sys.modules[function.__module__], "NORMALISER", None)
    return facts if normaliser is None else {**facts, "normaliser": str(normaliser)}


@dataclass(frozen=True)
class Work:
    """A model, its readers, one of its tasks, the items at ``indices`` of a split, and where metrics come from.

    ``precision`` is what the model computes in: ``"auto"``, ``"bf16"`` or ``"fp32"``.
    """

    model: SkillNet
    readers: Mapping[str, Reader]
    task: TaskConfig
    split: Split
    indices: list[int]
    registry: Registry
    precision: str = "auto"


@dataclass(frozen=True)
class Findings:
    """What a protocol measured; the attributes are those of :class:`skillnet_cli.runs.Result`."""

    metrics: dict[str, float]
    items: int
    queries: int
    damaged: int
    protocol: dict[str, Any] = field(default_factory=dict)
    cases: tuple[dict[str, Any], ...] = ()


CASES = 6
"""Items shown in galleries."""


@dataclass(frozen=True)
class Item:
    """One item of a split: its place, its id, its reference (the target's field) and its towers × segments."""

    index: int
    id: str
    reference: Any
    towers: list[list[Features]]


@dataclass
class ItemReader:
    """Batches of a split's items for one task, of like lengths; ``damaged`` fills up with (id, reason)."""

    task: TaskConfig
    readers: Mapping[str, Reader]
    damaged: list[tuple[str, str]] = field(default_factory=list)

    def batches(self, split: Split, indices: Sequence[int]) -> Iterator[list[Item]]:
        """The items at ``indices`` in batches; an item that cannot be read is left out."""
        return by_length(self._read(split, indices), self._length)

    def collate(self, items: Sequence[list[list[Features]]]) -> list[list[Batch]]:
        """The towers × segments of several items as batches."""
        return [
            [self.readers[skill].collate([item[t][s] for item in items]) for s, skill in enumerate(skills)]
            for t, skills in enumerate(self.task.towers)
        ]

    def _read(self, split: Split, indices: Sequence[int]) -> Iterator[Item]:
        for index in indices:
            sample = split[index]
            try:
                towers = [[self.readers[skill].read(texts(sample[skill])[0]) for skill in t] for t in self.task.towers]
            except DamagedItem as error:
                self.damaged.append((sample["id"], str(error)))
            else:
                yield Item(index, sample["id"], sample.get(self.task.target or ""), towers)

    def _length(self, item: Item) -> int:
        towers = zip(self.task.towers, item.towers, strict=True)
        segments = [segment for skills, features in towers for segment in zip(skills, features, strict=True)]
        return sum(self.readers[skill].length(features) for skill, features in segments)


def towers_to_device(towers: list[list[Batch]], device: torch.device) -> list[list[Batch]]:
    """The towers × segments of a batch on another device."""
    return [[to_device(batch, device) for batch in segments] for segments in towers]


def texts(value: Any) -> list[Any]:
    """All of an item's texts; a single medium as a list of one."""
    return value if isinstance(value, list) else [value]


def spread(size: int, limit: int | None, seed: int | None = None) -> list[int]:
    """Which items to measure: all, or ``limit`` of them evenly spread over the split, or with a seed by chance."""
    count = size if limit is None else min(limit, size)
    if seed is not None:
        return sorted(random.Random(seed).sample(range(size), count))
    return [place * size // count for place in range(count)]


def by_chance(ids: Mapping[int, str]) -> list[int]:
    """The keys of the few items to show: those whose ids have the lowest checksums, so that nobody picks them."""
    return sorted(ids, key=lambda key: (zlib.crc32(ids[key].encode()), key))[:CASES]
