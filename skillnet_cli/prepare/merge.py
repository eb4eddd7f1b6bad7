"""Puts the parts of a set together: looks for duplicates, filters, splits, writes the ledger, shards and manifest.

Whatever it looks at is on the disk; in memory are a few bytes of each item.
"""

from __future__ import annotations

import itertools
import sqlite3
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8, UInt64

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.format import ASSETS, LEDGER, Entry, Ledger, Manifest, Rejection, SplitFacts
from skillnet_cli.files import make_folder, write_whole
from skillnet_cli.prepare.asked import source_names
from skillnet_cli.prepare.duplicates import equal_keys
from skillnet_cli.prepare.part import Part
from skillnet_cli.prepare.preparer import Item, Preparation, Preparer, Summary
from skillnet_cli.prepare.workdir import LimitCounter, Plan, WorkFolder
from skillnet_cli.prepare.writer import BEYOND_LIMIT, SAME_ID, SplitWriter, clear_set, merge_kinds


@dataclass(frozen=True)
class PreparedResult:
    """What was made: the manifest, and for each class of the ledger the most frequent reasons and their items."""

    manifest: Manifest
    reasons: Mapping[str, Sequence[tuple[str, int]]]


def merge(preparer: Preparer, work: WorkFolder) -> PreparedResult:
    """Make a set of its parts; then delete them.

    Raises:
        UserError: a range is still to be read.
        FailedJob: too much was left out, or the disk is full.
    """
    facts, plan = work.read_plan()
    with work.alone():
        table = _ItemTable(work.folder, _used_parts(preparer, plan, work))
        moved = preparer.independent and preparer.job.limit is None
        if not moved:  # shards that an earlier try has renamed into the folder are part of the set
            clear_set(preparer.job.out)
        try:
            result = _write_set(preparer, table, facts.version, moved, work.asked())
        except UserError:  # nothing came in: that must not keep the folder from what was meant
            table.rejections.close()
            work.remove()
            (preparer.job.out / LEDGER).unlink(missing_ok=True)
            raise
        work.remove()
        return result


def _used_parts(preparer: Preparer, plan: Plan, work: WorkFolder) -> list[Part]:
    """The parts that the set is made of. Raises UserError where one is missing, or its sources have changed since."""
    counter, used, missing, stale = LimitCounter(preparer), [], [], 0
    for place, splits in enumerate(plan.splits):
        if not counter.needs(splits):
            continue
        part = Part.open(work.out, place)
        if part is None:
            missing.append(place)
        elif work.stale(place, part, plan):
            missing.append(place)
            stale += 1
        else:
            used.append(part)
            counter.add(part.facts)
    if missing:
        raise UserError(
            f"{work.out}: {len(missing)} of {len(plan)} ranges are still to be read (the first is range {missing[0]})"
            f"{f', {stale} of them again: their sources have changed' if stale else ''}: "
            "run 'skillnet prepare NAME --shard I/N' for every I, or without --shard"
        )
    return used


def _write_set(
    preparer: Preparer, table: _ItemTable, version: str, moved: bool, asked: dict[str, Any]
) -> PreparedResult:
    """Take the steps over all items, and write the set; ``moved`` says that shards are renamed, not copied."""
    job, name, out = preparer.job, preparer.job.dataset.name, preparer.job.out
    protocol = _take_steps(table, preparer)
    sha256, ledger = _write_ledger(table, out)
    again = "run it again (only what has changed is read again)"
    advice = f"see {out / LEDGER}, repair the source or allow more, and {again}"
    job.tolerance.check(name, ledger.counts, ledger.reasons, advice)
    ledger.check_kept(name)
    summary = preparer.finish(table, protocol)
    manifest = Manifest(
        name=name,
        version=version,
        licence=job.dataset.licence,
        source=tuple(source_names(job.sources)) or tuple(each.url for each in job.dataset.published),
        seed=job.seed,
        choices=_choices(job, protocol, summary),
        fields=table.field_kinds(),
        targets={field: list(values) for field, values in summary.targets.items()},
        splits=_move_shards(table, out) if moved else _copy_samples(table, preparer),
        ledger=ledger.counts,
        ledger_sha256=sha256,
        asked=asked,
        **_write_assets(out, summary.assets),
    )
    table.rejections.close()
    manifest.write(out)
    return PreparedResult(manifest, ledger.reasons)


def _choices(job: Preparation, protocol: str | None, summary: Summary) -> dict[str, Any]:
    """What was chosen: the split, the limit, the data set's own options, and what the preparer adds."""
    split = {"split": protocol} if protocol else {}
    return {**split, "limit": job.limit, **job.recorded_options, **summary.choices}


# --- the items ------------------------------------------------------------------------------------------------------

_IDS, _CONTENTS = slice(0, 2), slice(2, 4)
"""The columns of a part's keys."""


class _ItemTable:
    """The items that the parts keep, each at a place counted in order of the input.

    Attributes:
        parts: those that are used.
        names: the splits, numbered by their first appearance, then those that are added.
        starts: the place of each part's first item, and the number of all.
        alive: whether the item at a place is still kept.
        split: the number of its split.
        rejections: what was left out since the parts were made.
    """

    def __init__(self, work: Path, parts: Sequence[Part]) -> None:
        self.work = work
        self.parts = parts
        self.names: list[str] = []
        self.starts = np.cumsum([0, *(part.facts.kept for part in parts)])
        self.alive: Bool[np.ndarray, " items"] = np.ones(int(self.starts[-1]), bool)
        self.split: UInt8[np.ndarray, " items"] = np.empty(len(self.alive), np.uint8)
        for start, part in zip(self.starts, parts, strict=False):
            lookup = np.array([self.number(name) for name in part.facts.splits] or [0], np.uint8)
            self.split[start : start + part.facts.kept] = lookup[part.kept()[:, 0]]
        self.rejections = _Rejections(work / "merge.sqlite")
        self._unsettled = array("q")
        # Reasons name earlier items, mostly of the same part: a few parts' ids are kept.
        self._ids = lru_cache(maxsize=8)(self._read_ids)

    def number(self, name: str) -> int:
        """The number of a split, which may be new."""
        if name not in self.names:
            self.names.append(name)
        if len(self.names) > 255:
            raise ValueError("a set has more than 255 splits")
        return self.names.index(name)

    def keys(self, columns: slice) -> Iterator[UInt64[np.ndarray, "_ 2"]]:
        """The keys of ids or of contents, a block for each part."""
        return (part.keys()[:, columns] for part in self.parts)

    def rows(self) -> Iterator[tuple[int | None, Entry, Any]]:
        """All rows of all parts in order of the input: the item's place where it was kept, its row, its facts."""
        place = 0
        for part in self.parts:
            for entry, facts in part.rows():
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

    def field_kinds(self) -> dict[str, str]:
        """Field -> what it holds, over all kept items. Raises ValueError where it holds two kinds of things."""
        kinds: dict[str, str] = {}
        for start, part in zip(self.starts, self.parts, strict=False):
            alive = self.alive[start : start + part.facts.kept]
            # In the order of their last items, as if the items had been merged one by one: the last suffix stays.
            shapes, lasts = np.unique(part.kept()[alive, 1][::-1], return_index=True)
            for shape in shapes[np.argsort(-lasts)]:
                kinds = merge_kinds(kinds, part.facts.shapes[shape])
        return dict(sorted(kinds.items()))

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
        return tuple(entry.id for entry, _ in self.parts[part].rows() if entry.why == "kept")


class _Rejections:
    """Rows (place, class, reason) on the disk, in order of place; the first for a place counts."""

    _AT_ONCE = 10_000  # rows of a transaction

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._path = path
        with self._disk():
            self._base = sqlite3.connect(path)
            # Nothing of it is of use after a crash: a merge starts over.
            self._base.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
            self._base.execute("CREATE TABLE rejected (place INTEGER PRIMARY KEY, why TEXT, reason TEXT)")
        self._pending: list[tuple[int, str, str]] = []

    def add(self, place: int, why: str, reason: str) -> None:
        self._pending.append((int(place), why, reason.encode("utf-8", errors="replace").decode()))
        if len(self._pending) >= self._AT_ONCE:
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


# --- the steps over all items ---------------------------------------------------------------------------------------


def _take_steps(table: _ItemTable, preparer: Preparer) -> str | None:
    """Leave out duplicates and what the preparer filters, split pools, keep the limit; returns the protocol used."""
    if not preparer.independent:
        _reject_duplicates(table)
        preparer.filter(table)
        table.settle()
    protocol = _choose_protocol(table, preparer)
    for name in tuple(table.names):
        table.split[table.places(name)] = table.number(preparer.pool(name, protocol))
    for pool in preparer.pools:
        _split_pool(table, preparer, pool, protocol)
    if preparer.job.limit is not None:
        _keep_limit(table, preparer.job.limit)
    return protocol


def _reject_duplicates(table: _ItemTable) -> None:
    """Of items with the same id in a split, and of items with the same content, keep the first."""
    for places, _ in equal_keys(table.keys(_IDS), table.alive, table.work):
        for place in places.tolist():
            table.reject(place, "duplicate", SAME_ID)
    table.settle()
    for places, firsts in equal_keys(table.keys(_CONTENTS), table.alive, table.work):
        order = np.argsort(firsts)  # so that ids are looked up part by part
        for place, first in zip(places[order].tolist(), firsts[order].tolist(), strict=True):
            table.reject(place, "duplicate", f"the same content as '{table.id_of(first)}'")
    table.settle()


def _choose_protocol(table: _ItemTable, preparer: Preparer) -> str | None:
    """What ``--split`` asks for, else the paper's where the set is large enough."""
    job, known = preparer.job, preparer.job.dataset.protocols
    if job.protocol or not known:
        return job.protocol
    paper = "paper" in known and ("official" not in known or preparer.large_enough(table.sizes()))
    return "paper" if paper else "official"


def _split_pool(table: _ItemTable, preparer: Preparer, pool: str, protocol: str | None) -> None:
    """Split a pool as the preparer says; what goes into no split is filtered."""
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


def _keep_limit(table: _ItemTable, limit: int) -> None:
    """Of each split keep the first ``limit`` items in order of the input."""
    for name in table.names:
        for place in table.places(name)[limit:].tolist():
            table.reject(place, "filtered", BEYOND_LIMIT.format(limit))
    table.settle()


# --- the files of the set -------------------------------------------------------------------------------------------


def _write_ledger(table: _ItemTable, out: Path) -> tuple[str, Ledger]:
    """Write the ledger's rows in order of the input; returns its sha256, and the ledger for its counts."""
    with closing(Ledger(out / LEDGER)) as ledger:
        rejected = itertools.chain(table.rejections, itertools.repeat((-1, "", "")))
        next_place, why, reason = next(rejected)
        for place, entry, _ in table.rows():
            if place is not None:
                split = table.names[table.split[place]]
                entry = replace(entry, split=split)
                if place == next_place:
                    entry = Entry(split, entry.id, why, reason)
                    next_place, why, reason = next(rejected)
            ledger.add(entry)
        return ledger.finish(), ledger


def _copy_samples(table: _ItemTable, preparer: Preparer) -> dict[str, SplitFacts]:
    """Write the samples of kept items, as they are, into new shards."""
    job = preparer.job
    writers: dict[str, SplitWriter] = {}
    what = f"{job.dataset.name}: parts put together"
    try:
        for number, part in enumerate(job.progress.track(table.parts, len(table.parts), what)):
            for place, (region, shape) in enumerate(part.samples(), int(table.starts[number])):
                if table.alive[place]:
                    split = table.names[table.split[place]]
                    if split not in writers:
                        writers[split] = SplitWriter(job.out, split, preparer.shard_items)
                    writers[split].add(region, shape)
        return {split: writers[split].finish() for split in sorted(writers)}
    finally:
        for writer in writers.values():
            writer.close()


def _move_shards(table: _ItemTable, out: Path) -> dict[str, SplitFacts]:
    """Rename the shards of the parts to those of the set; a run that was killed at it is resumed."""
    writers: dict[str, SplitWriter] = {}
    for part in table.parts:
        for split, facts in part.facts.splits.items():
            if split not in writers:
                writers[split] = SplitWriter(out, split, shard_items=0)  # it only ever gets whole shards
            writers[split].move(part.folder / facts.file, facts, part.common_fields(split))
    return {split: writers[split].finish() for split in sorted(writers)}


def _write_assets(out: Path, assets: Mapping[str, bytes]) -> dict[str, Any]:
    """Write files beside the shards; returns what the manifest says of them."""
    if not assets:
        return {}
    make_folder(out / ASSETS, "name another folder with --out")
    return {"assets": {name: write_whole(out / ASSETS / name, content) for name, content in sorted(assets.items())}}
