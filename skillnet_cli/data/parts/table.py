"""All kept items of a set as the steps at the end see them: a few bytes each in memory, the rest on the disk."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8, UInt64

from skillnet_cli.api import FailedJob
from skillnet_cli.data.ledger import Entry, Rejection
from skillnet_cli.data.parts.part import KEPT, KEYS, PartFacts, part_folder, read_rows
from skillnet_cli.data.preparer import Item

WRITE_AT_ONCE = 10_000


class Table:
    """The items that the parts keep, each at a place counted in order of the input.

    Attributes:
        numbers: the places of the ranges whose parts are used, and what the parts say.
        names: the splits, numbered by their first appearance, then those that are added.
        alive: whether the item at a place is still kept.
        split: the number of its split.
    """

    def __init__(self, work: Path, parts: Sequence[tuple[int, PartFacts]]) -> None:
        self.work = work
        self.numbers = [number for number, _ in parts]
        self.parts = [part for _, part in parts]
        self.names: list[str] = []
        self.starts = np.cumsum([0, *(part.kept for part in self.parts)])
        self.alive: Bool[np.ndarray, " items"] = np.ones(int(self.starts[-1]), bool)
        self.split: UInt8[np.ndarray, " items"] = np.empty(len(self.alive), np.uint8)
        for place, part in enumerate(self.parts):
            lookup = np.array([self.number(name) for name in part.splits] or [0], np.uint8)
            self.split[self.starts[place] : self.starts[place + 1]] = lookup[self.kept(place)[:, 0]]
        self.rejections = _Rejections(work / "merge.sqlite")
        self._unsettled = array("q")
        self._ids = lru_cache(maxsize=8)(self._read_ids)

    def number(self, name: str) -> int:
        """The number of a split, which may be new."""
        if name not in self.names:
            self.names.append(name)
        if len(self.names) > 255:
            raise ValueError("a set has more than 255 splits")
        return self.names.index(name)

    def kept(self, place: int) -> UInt8[np.ndarray, "items 2"]:
        """For each item of the part at ``place``: which of the part's splits and shapes it has."""
        return np.load(part_folder(self.work, self.numbers[place]) / KEPT, allow_pickle=False)

    def keys(self, columns: slice) -> Iterator[UInt64[np.ndarray, "_ 2"]]:
        """The keys of ids (columns 0 to 2) or of contents (2 to 4), a block for each part."""
        for number in self.numbers:
            yield np.load(part_folder(self.work, number) / KEYS, allow_pickle=False)[:, columns].astype(np.uint64)

    def rows(self) -> Iterator[tuple[int | None, Entry, Any]]:
        """All rows of all parts in order of the input: the item's place where it was kept, its row, its facts."""
        place = 0
        for number in self.numbers:
            for entry, facts in read_rows(self.work, number):
                if entry.why == "kept":
                    yield place, entry, facts
                    place += 1
                else:
                    yield None, entry, facts

    def id_of(self, place: int) -> str:
        """The id of the item at a place."""
        part = int(np.searchsorted(self.starts, place, side="right")) - 1
        return self._ids(part)[place - int(self.starts[part])]

    def sizes(self) -> dict[str, int]:
        """Split -> items that are still kept, without empty ones."""
        counts = np.bincount(self.split[self.alive], minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, counts, strict=True) if count}

    def places(self, name: str) -> Int64[np.ndarray, " items"]:
        """The places of a split's items that are still kept."""
        return np.flatnonzero(self.alive & (self.split == self.number(name)))

    def __iter__(self) -> Iterator[Item]:
        for place, entry, facts in self.rows():
            if place is not None and self.alive[place]:
                yield Item(place, self.names[self.split[place]], entry.id, facts)

    def reject(self, place: int, why: Rejection, reason: str) -> None:
        """Leave an item out; it takes effect with :meth:`settle`."""
        self.rejections.add(place, why, reason)
        self._unsettled.append(place)

    def settle(self) -> None:
        """Let what was rejected take effect."""
        self.alive[np.array(self._unsettled, np.int64)] = False
        self._unsettled = array("q")

    def _read_ids(self, part: int) -> tuple[str, ...]:
        return tuple(entry.id for entry, _ in read_rows(self.work, self.numbers[part]) if entry.why == "kept")


class _Rejections:
    """Rows (place, class, reason) on the disk, in order of place; the first for a place counts."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._path = path
        with self._disk():
            self._base = sqlite3.connect(path)
            self._base.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
            self._base.execute("CREATE TABLE rejected (place INTEGER PRIMARY KEY, why TEXT, reason TEXT)")
        self._pending: list[tuple[int, str, str]] = []

    def add(self, place: int, why: str, reason: str) -> None:
        self._pending.append((int(place), why, reason.encode("utf-8", errors="replace").decode()))
        if len(self._pending) >= WRITE_AT_ONCE:
            self._flush()

    def __iter__(self) -> Iterator[tuple[int, str, str]]:
        self._flush()
        with self._disk():
            yield from self._base.execute("SELECT place, why, reason FROM rejected ORDER BY place")

    def close(self) -> None:
        self._base.close()

    def _flush(self) -> None:
        with self._disk():
            self._base.executemany("INSERT OR IGNORE INTO rejected VALUES (?, ?, ?)", self._pending)
            self._base.commit()
        self._pending.clear()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise FailedJob(f"{self._path} cannot be written: {error}: make room and run it again") from error
