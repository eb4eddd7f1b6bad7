"""Reads the items of a split for evaluation: no chance, no augmentation, damaged items counted and left out."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from skillnet_cli.api import Batch, DamagedItem, Features, Reader
from skillnet_cli.data.prepared import Split
from skillnet_cli.inference.batching import by_length
from skillnet_cli.inference.encoder import to_device
from skillnet_cli.objectives import TaskConfig

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
