"""The steps over all items of a set, once its ranges are read, with memory for a few bytes of each."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt8, UInt64

from skillnet_cli.api import FailedJob
from skillnet_cli.data.format import Entry, Rejection
from skillnet_cli.files import disk_errors
from skillnet_cli.prepare.part import KEPT, KEYS, SAME_ID, PartFacts, beyond, part_folder, read_rows
from skillnet_cli.prepare.preparer import Item, Preparer

AT_ONCE = 1 << 21
"""Keys that are sorted at a time: 16 bytes each and a place."""

_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("place", "<i8")])


def equal_keys(
    keys: Iterable[UInt64[np.ndarray, "_ 2"]], alive: Bool[np.ndarray, " all"], folder: Path, at_once: int = AT_ONCE
) -> Iterator[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]]:
    """The places of items whose key an earlier one has, and the places of the earliest that have it.

    Args:
        keys: the keys of all items in order, in blocks; a key of zeros is equal to none.
        alive: which items take part.
        folder: for the keys, sorted into files by their first bits.
        at_once: keys held in memory at a time, roughly.
    """
    buckets = max(1, 1 << max(0, int(alive.sum()) // at_once).bit_length())
    if buckets == 1:
        yield _copies(np.concatenate([np.empty(0, _RECORD), *_records(keys, alive)]))
        return
    paths = [folder / f"keys-{number:04d}" for number in range(buckets)]
    for path in paths:
        path.unlink(missing_ok=True)
    for block in _records(keys, alive):
        chosen = block["high"] % np.uint64(buckets)
        for number in np.unique(chosen):
            with disk_errors(paths[number]), open(paths[number], "ab") as file:
                block[chosen == number].tofile(file)
    for path in paths:
        if path.exists():
            yield _copies(np.fromfile(path, _RECORD))
            path.unlink()


def _records(keys: Iterable[UInt64[np.ndarray, "_ 2"]], alive: Bool[np.ndarray, " all"]) -> Iterator[np.ndarray]:
    start = 0
    for block in keys:
        wanted = alive[start : start + len(block)] & block.any(axis=1)
        records = np.empty(int(wanted.sum()), _RECORD)
        records["high"], records["low"] = block[wanted, 0], block[wanted, 1]
        records["place"] = start + np.flatnonzero(wanted)
        start += len(block)
        yield records


def _copies(records: np.ndarray) -> tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]:
    order = np.lexsort((records["place"], records["low"], records["high"]))
    records = records[order]
    fresh = np.ones(len(records), bool)
    fresh[1:] = (records["high"][1:] != records["high"][:-1]) | (records["low"][1:] != records["low"][:-1])
    first = records["place"][np.maximum.accumulate(np.where(fresh, np.arange(len(records)), 0))]
    return records["place"][~fresh], first[~fresh]


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


IDS, CONTENTS = slice(0, 2), slice(2, 4)


def take_steps(table: Table, preparer: Preparer) -> str | None:
    """Leave out copies and what the preparer filters, split pools, keep the limit; returns the protocol used."""
    if not preparer.independent:
        _leave_out_copies(table)
        preparer.filter(table)
        table.settle()
    protocol = _choose_protocol(table, preparer)
    for name in tuple(table.names):
        table.split[table.places(name)] = table.number(preparer.pool(name, protocol))
    for pool in preparer.pools:
        _split_pool(table, preparer, pool, protocol)
    _keep_limit(table, preparer.job.limit)
    return protocol


def _leave_out_copies(table: Table) -> None:
    """Of items with the same id in a split, and of items with the same content, keep the first."""
    for places, _ in equal_keys(table.keys(IDS), table.alive, table.work):
        for place in places.tolist():
            table.reject(place, "duplicate", SAME_ID)
    table.settle()
    for places, firsts in equal_keys(table.keys(CONTENTS), table.alive, table.work):
        order = np.argsort(firsts)  # so that ids are looked up part by part
        for place, first in zip(places[order].tolist(), firsts[order].tolist(), strict=True):
            table.reject(place, "duplicate", f"the same content as '{table.id_of(first)}'")
    table.settle()


def _choose_protocol(table: Table, preparer: Preparer) -> str | None:
    """What ``--split`` asks for, else the paper's where the set is large enough."""
    job, known = preparer.job, preparer.job.dataset.protocols
    if job.protocol or not known:
        return job.protocol
    paper = "paper" in known and ("official" not in known or preparer.large_enough(table.sizes()))
    return "paper" if paper else "official"


def _split_pool(table: Table, preparer: Preparer, pool: str, protocol: str | None) -> None:
    """Split a pool as the preparer says; what it leaves to nobody is filtered."""
    places = table.places(pool)
    how = preparer.split(pool, len(places), protocol)
    if how is None:
        return
    if how.shuffled:
        # Each pool has a generator of its own, so that another one's size changes nothing here.
        seed = [preparer.job.seed, *pool.encode()]
        places = np.random.default_rng(seed).permutation(places)
    start = 0
    for split, size in how.sizes.items():
        table.split[places[start : start + size]] = table.number(split)
        start += size
    for place in places[start:].tolist():
        table.reject(place, "filtered", "more items than the splits take")
    table.settle()


def _keep_limit(table: Table, limit: int | None) -> None:
    """Of each split keep the first ``limit`` items in order of the input."""
    for name in table.names if limit is not None else ():
        for place in table.places(name)[limit:].tolist():
            table.reject(place, "filtered", beyond(limit))
    table.settle()
