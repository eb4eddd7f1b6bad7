"""Checks every byte of a prepared set and names each fault: files, tables, samples, assets, the ledger and its sums."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.format import (
    ASSETS,
    CLASSES,
    LEDGER,
    MANIFEST,
    Manifest,
    ShardFacts,
    SplitFacts,
    decode_sample,
    end_of_archive,
    inside,
    read_checks,
    read_ledger,
    read_offsets,
    tables_of,
)
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.files import CHUNK, sha256_of
from skillnet_cli.untrusted import Untrusted


@dataclass(frozen=True)
class _Fault:
    """What is wrong, in which file, and with which item if it is one."""

    file: str
    what: str
    item: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: {f'item {self.item}: ' if self.item else ''}{self.what}"


def verify(folder: Path) -> Iterator[_Fault]:
    """Every fault of the set in a folder, file by file. Memory does not grow with the set.

    Raises:
        UserError: there is no prepared set, or it is unfinished.
    """
    try:
        prepared = PreparedSet.open(folder)
    except UserError as error:
        if not (folder / MANIFEST).is_file():
            raise
        yield _Fault(MANIFEST, str(error).removeprefix(f"{folder / MANIFEST}: "))
        return
    ids = _Ids()
    for name, facts in prepared.manifest.splits.items():
        yield from _of_split(prepared, name, facts, ids)
    yield from _of_assets(folder, prepared.manifest.assets)
    yield from _of_ledger(folder, prepared.manifest, ids)


def _of_split(prepared: PreparedSet, name: str, facts: SplitFacts, ids: _Ids) -> Iterator[_Fault]:
    if sum(shard.items for shard in facts.shards) != facts.items:
        yield _Fault(MANIFEST, f"split '{name}' has {facts.items} items, its shards do not sum to that")
    check = _Samples(facts, prepared.manifest)
    for number, shard in enumerate(facts.shards):
        read = _Shard(prepared.path / shard.file, shard, check)
        yield from read.faults()
        ids.shard(name, number, shard, None if read.unknown else read.ids)


@dataclass(frozen=True)
class _Samples:
    """What every sample of a split must have."""

    split: SplitFacts
    manifest: Manifest

    def wrong(self, sample: Mapping[str, Any]) -> str | None:
        """What is wrong with a sample that is as it was written."""
        missing = [name for name in ("id", *self.split.fields) if name not in sample]
        if missing:
            return f"the field '{missing[0]}', which every item of the split should have, is missing"
        unknown = [name for name in sample if name != "id" and name not in self.manifest.fields]
        return f"the field '{unknown[0]}' is not in the manifest" if unknown else None


@dataclass
class _Shard:
    """Reads one shard from end to end, once; ``ids`` stands for its ids in order, unless some are ``unknown``."""

    path: Path
    facts: ShardFacts
    check: _Samples
    ids: Any = field(default_factory=hashlib.sha256)
    unknown: bool = False

    def faults(self) -> Iterator[_Fault]:
        wrong = _why_unreadable(self.path)
        if wrong:
            self.unknown = True
            yield self._fault(wrong)
        offsets, checks = yield from self._tables()
        if wrong:
            return
        size = self.path.stat().st_size
        if size != self.facts.bytes:
            yield self._fault(f"has {size} bytes instead of {self.facts.bytes}")
        if offsets is None or checks is None:
            self.unknown = True
            if sha256_of(self.path) != self.facts.sha256:
                yield self._fault("checksum mismatch")
            return
        yield from self._content(offsets, checks, size)

    def _tables(self) -> Generator[_Fault, None, tuple[np.ndarray | None, np.ndarray | None]]:
        """The two tables, None where one is damaged."""
        index, checks = tables_of(self.path)
        offsets = yield from _table(index, lambda: read_offsets(self.path, self.facts))
        found = yield from _table(checks, lambda: read_checks(self.path, self.facts))
        return offsets, found

    def _content(self, offsets: np.ndarray, checks: np.ndarray, size: int) -> Iterator[_Fault]:
        digest, damaged = hashlib.sha256(), False
        with self.path.open("rb") as file:
            for place, length in enumerate(np.diff(offsets).tolist()):
                region = file.read(length)
                digest.update(region)
                if len(region) != length:
                    self.unknown = damaged = True
                    yield self._breaks_off(place)
                    break
                what = self._sample(region, int(checks[place]))
                if what:
                    damaged = True
                    yield _Fault(self.path.name, what, self._name(region, place))
            end = file.read(CHUNK)
            digest.update(end)
            while piece := file.read(CHUNK):
                digest.update(piece)
        if not damaged and size == self.facts.bytes and end != end_of_archive(int(offsets[-1])):
            yield self._fault("the last item is not followed by the end of a tar")
        elif not damaged and digest.hexdigest() != self.facts.sha256:
            yield self._fault("checksum mismatch")

    def _sample(self, region: bytes, check: int) -> str | None:
        """What is wrong with a sample's bytes; its id is taken down where it can be."""
        try:
            sample = decode_sample(region)
            _add_id(self.ids, str(sample["id"]))
        except (ValueError, KeyError, TypeError):
            self.unknown = True
            return "not a sample (its headers or its JSON are damaged)"
        if zlib.crc32(region) != check:
            return "altered (checksum mismatch)"
        return self.check.wrong(sample)

    def _name(self, region: bytes, place: int) -> str:
        """What an item is called in a line: its id where that can be read, else its place."""
        try:
            return f"'{decode_sample(region)['id']}' (number {place})"
        except (ValueError, KeyError, TypeError):
            return f"number {place}"

    def _breaks_off(self, place: int) -> _Fault:
        last = self.facts.items - 1
        what = "missing" if place == last else f"missing, and so are all after it up to number {last}"
        return _Fault(self.path.name, f"{what}: the file is cut off", f"number {place}")

    def _fault(self, what: str) -> _Fault:
        return _Fault(self.path.name, what)


def _table(path: Path, read: Callable[[], np.ndarray]) -> Generator[_Fault, None, np.ndarray | None]:
    """A table beside a shard; where it is damaged, a fault, and None."""
    if not path.is_file():
        yield _Fault(path.name, "is missing")
        return None
    try:
        return read()
    except FailedJob as error:
        found = re.search(r"altered or damaged \((.*)\): see", str(error))
        yield _Fault(path.name, found[1] if found else "cannot be read")
    return None


def _why_unreadable(path: Path) -> str | None:
    """Why a file of a set is not read: it is not there, or leads out of the set."""
    if not path.is_file():
        return "is missing" if not os.path.lexists(path) or path.is_symlink() else "is not a file"
    try:
        inside(path)
    except Untrusted as error:
        return str(error)
    return None


def _of_assets(folder: Path, assets: Mapping[str, str]) -> Iterator[_Fault]:
    for name, sha256 in assets.items():
        path = folder / ASSETS / name
        wrong = _why_unreadable(path)
        if wrong:
            yield _Fault(f"{ASSETS}/{name}", wrong)
        elif sha256_of(path) != sha256:
            yield _Fault(f"{ASSETS}/{name}", "checksum mismatch")


@dataclass
class _Ids:
    """A digest of the ids of each shard in order, to be compared with those that the ledger keeps."""

    shards: dict[str, list[tuple[ShardFacts, str | None]]] = field(default_factory=dict)

    def shard(self, split: str, number: int, facts: ShardFacts, digest: Any) -> None:
        """Take down a shard's ids; None where they are not all known."""
        self.shards.setdefault(split, []).append((facts, digest.hexdigest() if digest else None))

    def compare(self, kept: Mapping[str, _Kept]) -> Iterator[_Fault]:
        """The shards whose ids differ from the ledger's."""
        for split, shards in self.shards.items():
            found = kept.get(split)
            for (facts, digest), stated in zip(shards, found.digests if found else (), strict=False):
                if digest is not None and digest != stated:
                    yield _Fault(facts.file, f"its items are not those that {LEDGER} keeps")


class _Kept:
    """The ids that the ledger keeps of a split, cut where its shards end."""

    def __init__(self, shards: Iterable[ShardFacts]) -> None:
        self.items = 0
        self.digests: list[str] = []
        self._ends = itertools.accumulate(shard.items for shard in shards)
        self._end = next(self._ends, -1)
        self._open = hashlib.sha256()

    def add(self, id: str) -> None:
        """The next id."""
        _add_id(self._open, id)
        self.items += 1
        if self.items == self._end:
            self.digests.append(self._open.hexdigest())
            self._open, self._end = hashlib.sha256(), next(self._ends, -1)


def _of_ledger(folder: Path, manifest: Manifest, ids: _Ids) -> Iterator[_Fault]:
    path = folder / LEDGER
    wrong = _why_unreadable(path)
    if wrong:
        yield _Fault(LEDGER, wrong)
        return
    if sha256_of(path) != manifest.ledger_sha256:
        yield _Fault(LEDGER, "checksum mismatch")
    counts: Counter[str] = Counter()
    kept = {name: _Kept(facts.shards) for name, facts in manifest.splits.items()}
    try:
        for number, entry in enumerate(read_ledger(folder), 1):
            counts[entry.why] += 1
            if entry.why not in CLASSES:
                yield _Fault(LEDGER, f"line {number}: '{entry.why}' is not a class of the ledger", entry.id)
            elif entry.why == "kept" and entry.split not in kept:
                yield _Fault(LEDGER, f"line {number}: kept in '{entry.split}', which is not a split", entry.id)
            elif entry.why == "kept":
                kept[entry.split].add(entry.id)
    except (UserError, UnicodeDecodeError) as error:
        yield _Fault(LEDGER, str(error).removeprefix(f"{path}, ").partition(": prepare")[0])
        return
    yield from _sums(manifest, counts, kept)
    yield from ids.compare(kept)


def _sums(manifest: Manifest, counts: Mapping[str, int], kept: Mapping[str, _Kept]) -> Iterator[_Fault]:
    """Where the sums of ledger and manifest differ."""
    for why, stated in manifest.ledger.items():
        if counts.get(why, 0) != stated:
            yield _Fault(LEDGER, f"has {counts.get(why, 0)} items '{why}' where the manifest has {stated}")
    for name, facts in manifest.splits.items():
        if kept[name].items != facts.items:
            yield _Fault(LEDGER, f"keeps {kept[name].items} items in '{name}' where the split has {facts.items}")


def _add_id(digest: Any, id: str) -> None:
    digest.update(id.encode("utf-8", errors="surrogatepass") + b"\0")
