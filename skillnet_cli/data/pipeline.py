"""From a task's samples to its batches: choose a caption, read, augment, prepare the target, collate."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from skillnet_cli.api import Batch, DamagedItem, Features, PairReader, Reader, Source, Task, UserError
from skillnet_cli.pace import advanced


@runtime_checkable
class _TargetSide(Protocol):
    """The data side of an objective, as :class:`skillnet_cli.objectives.Targets` defines it."""

    def example(
        self, features: list[list[Features]], target: Any, rng: np.random.Generator
    ) -> tuple[list[list[Features]], Any]:
        """An item's features as the model shall see them, and what the loss must know of the item."""

    def collate(self, towers: list[list[Batch]], wanted: list[Any]) -> dict[str, Tensor]:
        """What the loss must know of several items, as tensors."""


@dataclass(frozen=True)
class Example:
    """One item, ready for a batch.

    ``features`` are towers × segments, ``length`` the tokens that the embedders will make of them, ``damaged`` the
    items (id, reason) in whose place this one stands. ``content_ids`` has a number for each tower, where asked for:
    equal ones are made of the same texts and media.
    """

    id: str
    features: list[list[Features]]
    wanted: Any
    length: int
    damaged: tuple[tuple[str, str], ...] = ()
    content_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class TaskBatch:
    """A batch of one task: towers × segments in the order of ``Task.towers``, what the loss must know, the items' ids.

    ``damaged`` has the items (id, reason) that could not be read and were replaced.
    """

    task: str
    towers: tuple[tuple[Batch, ...], ...]
    targets: dict[str, Tensor]
    ids: tuple[str, ...]
    damaged: tuple[tuple[str, str], ...] = ()

    def to(self, device: torch.device) -> TaskBatch:
        """The batch on another device."""
        towers = tuple(tuple(to_device(segment, device) for segment in tower) for tower in self.towers)
        return dataclasses.replace(self, towers=towers, targets=to_device(self.targets, device))


class TaskPipeline:
    """One task's samples as batches. It runs in loader processes and keeps no state.

    All that is random about a sample comes from a generator seeded with (seed, epoch, the id's CRC-32): which of its
    texts, the reader's choice, the augmentation, the masks. With ``identify`` a batch's targets have ``content_ids``
    of shape (items, towers), by which the loss knows items that are the same.
    """

    def __init__(
        self,
        task: Task,
        readers: Mapping[str, Reader],
        targets: _TargetSide,
        augments: Mapping[str, Callable[[Features, np.random.Generator], Features]] | None = None,
        seed: int = 0,
        identify: bool = False,
    ) -> None:
        """Raises UserError where the task reads pairs of a skill whose reader reads none."""
        self.task = task
        self.seed = seed
        self._identify = identify
        self._readers = readers
        self._targets = targets
        self._augments = dict(augments or {})
        self._pair_readers = {skill: pair_reader(readers[skill], skill) for skill in task.pairs}

    def example(self, sample: Mapping[str, Any], epoch: int | None) -> Example:
        """One sample, read. Without ``epoch`` (evaluation): its first text, no choices, no augmentation.

        Raises:
            DamagedItem: the sample cannot be decoded, lacks a field, or does not fit the task.
        """
        advanced()
        rng = self._generator(sample["id"], epoch)
        training = None if epoch is None else rng
        read, content_ids = [], []
        for tower in self.task.towers:
            found = [self._read(skill, sample, training) for skill in tower]
            read.append([features for features, _ in found])
            if self._identify:
                content_ids.append(_fingerprint(source for _, sources in found for source in sources))
        target = None if self.task.target is None else _field(sample, self.task.target)
        features, wanted = self._targets.example(read, target, rng)
        return Example(sample["id"], features, wanted, self._length(features), content_ids=tuple(content_ids))

    def batch(self, examples: Sequence[Example]) -> TaskBatch:
        """Several examples as one batch."""
        towers = [
            [self._readers[skill].collate([each.features[t][s] for each in examples]) for s, skill in enumerate(tower)]
            for t, tower in enumerate(self.task.towers)
        ]
        targets = self._targets.collate(towers, [each.wanted for each in examples])
        if self._identify:
            targets["content_ids"] = torch.tensor([each.content_ids for each in examples], dtype=torch.int64)
        ids = tuple(each.id for each in examples)
        damaged = tuple(item for each in examples for item in each.damaged)
        return TaskBatch(self.task.name, tuple(map(tuple, towers)), targets, ids, damaged)

    def _generator(self, id: str, epoch: int | None) -> np.random.Generator:
        """In evaluation the masks depend on the item alone, so that models of any seed are asked the same."""
        key = zlib.crc32(id.encode())
        if epoch is None:
            return np.random.default_rng(key)
        words = (self.seed, epoch, key)
        # The same generator either way; as words of 32 bits numpy need not look at each.
        return np.random.default_rng(np.array(words, np.uint32) if max(words) < 1 << 32 else words)

    def _read(
        self, skill: str, sample: Mapping[str, Any], rng: np.random.Generator | None
    ) -> tuple[Features, list[Source]]:
        """The features of a skill's field, or of its pair of fields, and which texts or media they were made of."""
        chosen = [_choose(sample, field, rng) for field in self.task.fields_of(skill)]
        try:
            if skill in self._pair_readers:
                features = self._pair_readers[skill].read_pair(chosen[0], chosen[1], rng)
            else:
                features = self._readers[skill].read(chosen[0], rng)
        except UserError as error:  # such as a text where a medium should be: nobody's mistake at the command line
            raise DamagedItem(str(error)) from error
        augment = self._augments.get(skill)
        return (features if rng is None or augment is None else augment(features, rng)), chosen

    def _length(self, features: list[list[Features]]) -> int:
        return sum(
            self._readers[skill].length(segment)
            for tower, segments in zip(self.task.towers, features, strict=True)
            for skill, segment in zip(tower, segments, strict=True)
        )


def pair_reader(reader: Reader, skill: str) -> PairReader:
    """A reader as one of pairs. Raises UserError where it reads none."""
    if not isinstance(reader, PairReader):
        raise UserError(f"the reader of skill '{skill}' reads no pairs")
    return reader


def _choose(sample: Mapping[str, Any], field: str, rng: np.random.Generator | None) -> Source:
    """A field's one source; of several the first, or one at random."""
    sources, several = sources_of(sample, field), isinstance(sample[field], list)
    return sources[0 if rng is None or not several else int(rng.integers(len(sources)))]


def _fingerprint(sources: Iterable[Source]) -> int:
    """64 bits that are the same for the same texts and media, as a signed number (BLAKE2)."""
    digest = hashlib.blake2b(digest_size=8)
    for source in sources:
        content = source if isinstance(source, bytes) else str(source).encode("utf-8", errors="surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    return int.from_bytes(digest.digest(), "little", signed=True)


def sources_of(sample: Mapping[str, Any], field: str) -> list[Source]:
    """What a skill can read of a sample's field: all texts in it, or the one medium.

    Raises:
        DamagedItem: there is no such field, or something else in it.
    """
    value = _field(sample, field)
    sources = value if isinstance(value, list) else [value]
    if not sources:
        raise DamagedItem(f"the field '{field}' is empty")
    if not all(isinstance(source, (str, bytes)) for source in sources):
        raise DamagedItem(f"the field '{field}' is neither a text nor a file")
    return sources


def _field(sample: Mapping[str, Any], name: str) -> Any:
    if name not in sample:
        raise DamagedItem(f"it has no field '{name}'")
    return sample[name]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The tensors of a batch on another device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
