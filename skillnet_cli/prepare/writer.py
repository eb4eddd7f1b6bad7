"""Writes prepared sets. A folder counts as a set only once :meth:`SetWriter.finish` has written its manifest."""

from __future__ import annotations

import io
import re
import shutil
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.data.format import (
    ASSETS,
    LEDGER,
    MANIFEST,
    SHARD_SUFFIXES,
    WORK,
    Entry,
    Ledger,
    Manifest,
    Rejection,
    ShardFacts,
    SplitFacts,
    check_name,
    check_suffix,
    encode_sample,
    end_of_archive,
    shard_stem,
    tables_of,
)
from skillnet_cli.files import PARTIAL, AtomicFile, write_whole


class ShardWriter:
    """One tar with its two tables; they are there, whole, after :meth:`finish`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tar = AtomicFile(path)
        self._offsets = [0]
        self._checks: list[int] = []

    @property
    def items(self) -> int:
        """Samples written so far."""
        return len(self._checks)

    def add(self, region: bytes) -> None:
        """Append a sample as :func:`encode_item` made it."""
        self._tar.write(region)
        self._offsets.append(self._tar.size)
        self._checks.append(zlib.crc32(region))

    def finish(self) -> ShardFacts:
        """End the shard and say what was written."""
        self._tar.write(end_of_archive(self._tar.size))
        index, checks = tables_of(self._path)
        return ShardFacts(
            file=self._path.name,
            items=self.items,
            bytes=self._tar.size,
            sha256=self._tar.finish(),
            index_sha256=write_whole(index, npy(np.array(self._offsets, dtype="<i8"))),
            crc32_sha256=write_whole(checks, npy(np.array(self._checks, dtype="<u4"))),
        )

    def close(self) -> None:
        """Leave it unfinished."""
        self._tar.close()


def encode_item(key: str, record: Mapping[str, Any], media: Mapping[str, tuple[bytes, str]]) -> bytes:
    """The bytes of a sample, see :func:`encode_sample`. Raises DamagedItem where it cannot be stored."""
    try:
        return encode_sample(key, record, media)
    except ValueError as error:  # UnicodeEncodeError is one
        raise DamagedItem(f"it cannot be stored: {error}") from error


def npy(table: np.ndarray) -> bytes:
    """The bytes of a ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, table, allow_pickle=False)
    return buffer.getvalue()


class SplitWriter:
    """The shards of one split; ``shard_items`` of its samples in each."""

    def __init__(self, out: Path, name: str, shard_items: int) -> None:
        self._out = out
        self._name = name
        self._shard_items = shard_items
        self._shards: list[ShardFacts] = []
        self._items = 0
        self._fields: set[str] | None = None
        self._open: ShardWriter | None = None

    def add(self, record: dict[str, Any], media: Mapping[str, tuple[bytes, str]], fields: Collection[str]) -> None:
        """Append a sample, which has these fields. Raises DamagedItem where it cannot be stored."""
        self.append(encode_item(f"{self._items:08d}", record, media), fields)

    def append(self, region: bytes, fields: Collection[str]) -> None:
        """Append a sample that is encoded already."""
        if self._open is None:
            self._open = ShardWriter(self._out / f"{shard_stem(self._name, len(self._shards))}.tar")
        self._open.add(region)
        self._items += 1
        self._fields = set(fields) if self._fields is None else self._fields & set(fields)
        if self._open.items == self._shard_items:
            self._end_shard()

    def finish(self) -> SplitFacts:
        """End the last shard and say what was written."""
        self._end_shard()
        return SplitFacts(items=self._items, fields=tuple(sorted(self._fields or ())), shards=tuple(self._shards))

    def close(self) -> None:
        """Leave the open shard unfinished."""
        if self._open:
            self._open.close()

    def _end_shard(self) -> None:
        if self._open:
            self._shards.append(self._open.finish())
            self._open = None


_OURS = re.compile(
    rf"({re.escape(MANIFEST)}|{re.escape(LEDGER)}|.+-\d{{6}}({'|'.join(map(re.escape, SHARD_SUFFIXES))}))"
    rf"({re.escape(PARTIAL)})?\Z"
)


class SetWriter:
    """Makes a prepared set: keep or reject every item that comes in, then finish. The same input makes the same bytes.

    Args:
        out: the set's folder; an older set there is replaced from the first moment on.
        name, version, licence, source, seed, choices: what the manifest says of them.
        shard_items: items a shard.

    Raises:
        UserError: ``out`` holds files that are not a prepared set's.
    """

    def __init__(
        self,
        out: Path,
        *,
        name: str,
        version: str = "1",
        licence: str,
        seed: int = 0,
        shard_items: int = 1000,
        source: Sequence[str] = (),
        choices: Mapping[str, Any] | None = None,
    ) -> None:
        clear_set(out)
        shutil.rmtree(out / WORK, ignore_errors=True)
        self._out = out
        self._draft = Manifest(
            name=name, version=version, licence=licence, source=tuple(source), seed=seed, choices=dict(choices or {}),
        )  # fmt: skip
        self._shard_items = shard_items
        self._splits: dict[str, SplitWriter] = {}
        self._fields: dict[str, str] = {}
        self._seen: set[tuple[str, str]] = set()
        self._ledger = Ledger(out)
        self._finished = False

    def keep(
        self, split: str, id: str, fields: dict[str, Any], media: dict[str, tuple[bytes, str]] | None = None
    ) -> bool:
        """Write one item. An id that its split has already becomes a row ``duplicate`` of the ledger instead.

        Args:
            split: its split.
            id: unique within the split.
            fields: what JSON can say: texts as a list of strings, labels, transcripts, numbers.
            media: field -> (encoded bytes, suffix with its dot).

        Returns:
            Whether it was kept.

        Raises:
            DamagedItem: a text is not valid Unicode, or a number is not finite; nothing is written.
            ValueError: a name or suffix that the format cannot hold, or a field of two kinds: a preparer's mistake.
        """
        if (split, id) in self._seen:
            self.reject(split, id, "duplicate", "another item has this id")
            return False
        kinds = field_kinds(fields, media or {})
        check_kinds(self._fields, kinds)
        self._split(split).add({"id": id, **fields}, media or {}, kinds)
        self._fields |= kinds
        self._seen.add((split, id))
        self._ledger.add(Entry(split, id, "kept"))
        return True

    def reject(self, split: str, id: str, why: Rejection, reason: str) -> None:
        """Write down that an item is left out, and why."""
        self._ledger.add(Entry(split, id, why, reason))

    def finish(self, targets: dict[str, list[str]] | None = None) -> Manifest:
        """Make the set whole; the manifest comes last.

        Args:
            targets: for each target field what it can be, in the order of a head's outputs.

        Raises:
            UserError: nothing came in.
            FailedJob: all that came in was rejected; the ledger says why.
        """
        splits = {name: self._splits[name].finish() for name in sorted(self._splits)}
        ledger_sha256 = self._ledger.finish()
        check_kept(self._draft.name, self._ledger.counts, self._out)
        found = {"splits": splits, "fields": dict(sorted(self._fields.items())), "targets": targets or {}}
        counts = {"ledger": self._ledger.counts, "ledger_sha256": ledger_sha256}
        manifest = self._draft.model_copy(update={**found, **counts})
        write_whole(self._out / MANIFEST, manifest.encode())
        self._finished = True
        return manifest

    def __enter__(self) -> SetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for split in self._splits.values():
            split.close()
        self._ledger.close()
        if kind is None and not self._finished:
            raise RuntimeError("a SetWriter was left without finish()")

    def _split(self, name: str) -> SplitWriter:
        if name not in self._splits:
            check_name("split", name)
            self._splits[name] = SplitWriter(self._out, name, self._shard_items)
        return self._splits[name]


def check_kept(name: str, counts: Mapping[str, int], out: Path) -> None:
    """Raises UserError where nothing came in, FailedJob where all of it was rejected."""
    if counts["kept"]:
        return
    if not any(counts.values()):
        raise UserError(f"{name}: the source holds no items: check what it points to")
    rejected = ", ".join(f"{count} {why}" for why, count in counts.items() if count)
    raise FailedJob(f"{name}: no item could be kept ({rejected}): see {out / LEDGER}")


def field_kinds(fields: Mapping[str, Any], media: Mapping[str, tuple[bytes, str]]) -> dict[str, str]:
    """What each field holds, as the manifest says it. Raises ValueError for names that the format cannot hold."""
    kinds = {name: _kind(value) for name, value in fields.items()}
    for name, (_, suffix) in media.items():
        check_suffix(suffix)
        kinds[name] = f"bytes {suffix}"
    if len(kinds) != len(fields) + len(media) or "id" in kinds:
        raise ValueError("a field is both text and media, or is called 'id'")
    for name in kinds:
        check_name("field", name)
    return kinds


def check_kinds(known: Mapping[str, str], kinds: Mapping[str, str]) -> None:
    """Raises ValueError where a field is of another kind than in the items before."""
    for field, kind in kinds.items():
        before = known.get(field, kind)
        if before.split()[0] != kind.split()[0]:
            raise ValueError(f"field {field!r} is {kind} here and was {before} in an earlier item")


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, list) and value:
        if all(isinstance(each, str) for each in value):
            return "texts"
        if all(isinstance(each, (int, float)) for each in value):
            return "numbers"
    return "json"


def clear_set(out: Path) -> None:
    """Make ``out`` an empty folder but for work in progress; an older set loses its manifest first of all.

    Raises:
        UserError: it cannot be made, or holds files that are not a prepared set's.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        there = sorted(out.iterdir(), key=lambda path: path.name != MANIFEST)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}: name another folder with --out") from error
    for path in there:
        if not (_OURS.match(path.name) or path.name in (ASSETS, WORK)):
            raise UserError(f"{out} holds '{path.name}', which is no prepared set's: name an empty folder with --out")
    for path in there:
        if path.name == ASSETS:
            shutil.rmtree(path)
        elif path.name != WORK:
            path.unlink()
