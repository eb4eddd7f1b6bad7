"""Writes prepared sets. A folder counts as a set only once :meth:`SetWriter.finish` has written its manifest."""

from __future__ import annotations

import io
import os
import re
import shutil
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from skillnet_cli.api import FailedJob, UserError
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
    encode_sample,
    end_of_archive,
    is_name,
    tables_of,
)
from skillnet_cli.files import PARTIAL, AtomicFile, disk_errors, replace_path, write_whole
from skillnet_cli.prepare.claims import claimed

SAME_ID = "another item has this id"
"""The reason for which a later item with the same id is a duplicate."""
BEYOND_LIMIT = "beyond the limit of {}"
"""The reason for what ``--limit`` leaves out."""

_NUMBER = re.compile(r"-\d{6}\Z")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]+)+\Z")
_OURS = re.compile(
    rf"({re.escape(MANIFEST)}|{re.escape(LEDGER)}|.+-\d{{6}}({'|'.join(map(re.escape, SHARD_SUFFIXES))}))"
    rf"({re.escape(PARTIAL)})?\Z"
)
"""The names of files that a prepared set consists of, finished or not."""


class SetWriter:
    """Makes a prepared set: keep or reject every item that comes in, then finish. The same input makes the same bytes.

    Args:
        out: the set's folder; an older set there counts as none from the first moment on.
        name: of the set.
        version: of what prepares it.
        licence: of what is in it.
        seed: of every random choice.
        shard_items: items a shard.
        source: what it is made of.
        choices: what was chosen besides, for the manifest.
        asked: what the set was asked for with, see :mod:`skillnet_cli.prepare.asked`.

    Raises:
        UserError: ``out`` holds files that are not a prepared set's, or another process writes there.
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
        asked: Mapping[str, Any] | None = None,
    ) -> None:
        check_folder(out)
        self._claim = ExitStack()
        self._claim.enter_context(claimed(out))
        clear_set(out)
        self._out = out
        self._draft = Manifest(
            name=name, version=version, licence=licence, source=tuple(source), seed=seed, choices=dict(choices or {}),
            asked=dict(asked or {}),
        )  # fmt: skip
        self._shard_items = shard_items
        self._splits: dict[str, SplitWriter] = {}
        self._fields: dict[str, str] = {}
        self._seen: set[tuple[str, str]] = set()
        self._ledger = Ledger(out / LEDGER)
        self._finished = False

    def keep(
        self, split: str, id: str, fields: dict[str, Any], media: dict[str, tuple[bytes, str]] | None = None
    ) -> bool:
        """Write one item. An id that its split has already becomes a row ``duplicate`` of the ledger instead.

        Args:
            split: its split.
            id: unique within the split.
            fields: values that JSON can hold: texts as a list of strings, labels, transcripts, numbers.
            media: field -> (encoded bytes, suffix with its dot).

        Returns:
            Whether it was kept.

        Raises:
            DamagedItem: a text is not valid Unicode, or a number is not finite; nothing is written.
            ValueError: a name or suffix that the format cannot hold, or a field of two kinds: a preparer's mistake.
        """
        if (split, id) in self._seen:
            self.reject(split, id, "duplicate", SAME_ID)
            return False
        kinds = field_kinds(fields, media or {})
        together = merge_kinds(self._fields, kinds)
        if split not in self._splits:
            self._splits[split] = SplitWriter(self._out, split, self._shard_items)
        writer = self._splits[split]
        writer.add(encode_sample(f"{writer.items:08d}", {"id": id, **fields}, media or {}), kinds)
        self._fields = together
        self._seen.add((split, id))
        self._ledger.add(Entry(split, id, "kept"))
        return True

    def reject(self, split: str, id: str, why: Rejection, reason: str) -> None:
        """Record that an item is left out.

        Args:
            split: its split, "" where it is not known.
            id: what the ledger calls it.
            why: the class of its row.
            reason: the rule that it breaks, or what is wrong with it.
        """
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
        self._ledger.check_kept(self._draft.name)
        found = {"splits": splits, "fields": dict(sorted(self._fields.items())), "targets": targets or {}}
        counts = {"ledger": self._ledger.counts, "ledger_sha256": ledger_sha256}
        manifest = self._draft.model_copy(update={**found, **counts})
        manifest.write(self._out)
        self._finished = True
        shutil.rmtree(self._out / WORK, ignore_errors=True)  # with the lock, which is still held
        self._claim.close()
        return manifest

    def __enter__(self) -> SetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for split in self._splits.values():
            split.close()
        self._ledger.close()
        self._claim.close()
        if kind is None and not self._finished:
            raise RuntimeError("a SetWriter was left without finish()")


class SplitWriter:
    """The shards of one split, each of ``shard_items`` samples; ``items`` counts the samples so far.

    Raises ValueError where the split's name cannot be part of a file's name.
    """

    def __init__(self, out: Path, name: str, shard_items: int) -> None:
        _check_name("split", name)
        self.items = 0
        self._out = out
        self._name = name
        self._shard_items = shard_items
        self._shards: list[ShardFacts] = []
        self._fields: set[str] | None = None
        self._open: ShardWriter | None = None

    def add(self, region: bytes, fields: Collection[str]) -> None:
        """Append a sample that :func:`encode_sample` made bytes of, and that has these fields."""
        if self._open is None:
            self._open = ShardWriter(self._out / self._next_name())
        self._open.add(region)
        self._count(1, fields)
        if self._open.items == self._shard_items:
            self._end_shard()

    def move(self, shard: Path, facts: ShardFacts, fields: Collection[str]) -> None:
        """Make a finished shard, whose samples all have these fields, the split's next one by renaming its files.

        A shard that was moved by a run that was killed afterwards is taken as it is.

        Raises:
            FailedJob: a file is missing, or cannot be renamed.
        """
        target = self._out / self._next_name()
        with disk_errors(target):
            for old, new in zip((shard, *tables_of(shard)), (target, *tables_of(target)), strict=True):
                if old.exists():
                    replace_path(new, old)
                elif not new.exists():
                    raise FailedJob(f"{old}: missing: delete its folder and run prepare again")
        self._shards.append(facts.model_copy(update={"file": target.name}))
        self._count(facts.items, fields)

    def finish(self) -> SplitFacts:
        """End the last shard. Returns what was written."""
        self._end_shard()
        return SplitFacts(items=self.items, fields=tuple(sorted(self._fields or ())), shards=tuple(self._shards))

    def close(self) -> None:
        """Leave it; a shard that is not finished is deleted."""
        if self._open:
            self._open.close()

    def _next_name(self) -> str:
        return f"{self._name}-{len(self._shards):06d}.tar"

    def _count(self, items: int, fields: Collection[str]) -> None:
        self.items += items
        self._fields = set(fields) if self._fields is None else self._fields & set(fields)

    def _end_shard(self) -> None:
        if self._open:
            self._shards.append(self._open.finish())
            self._open = None


class ShardWriter:
    """One tar with its two tables; they are there, whole, after :meth:`finish`. ``items`` counts the samples so far.

    Raises ValueError where the file's name has more than one dot.
    """

    def __init__(self, path: Path) -> None:
        _check_name("shard", _NUMBER.sub("", path.stem))
        self.items = 0
        self._path = path
        self._tar = AtomicFile(path)
        self._offsets = [0]
        self._checks: list[int] = []

    def add(self, region: bytes) -> None:
        """Append a sample that :func:`encode_sample` made bytes of."""
        self._tar.write(region)
        self._offsets.append(self._tar.size)
        self._checks.append(zlib.crc32(region))
        self.items += 1

    def finish(self) -> ShardFacts:
        """End the shard. Returns what was written."""
        self._tar.write(end_of_archive(self._tar.size))
        index, checks = tables_of(self._path)
        return ShardFacts(
            file=self._path.name,
            items=self.items,
            bytes=self._tar.size,
            sha256=self._tar.finish(),
            index_sha256=write_npy(index, np.array(self._offsets, dtype="<i8")),
            crc32_sha256=write_npy(checks, np.array(self._checks, dtype="<u4")),
        )

    def close(self) -> None:
        """Leave it; what is not finished is deleted."""
        self._tar.close()


def write_npy(path: Path, table: np.ndarray) -> str:
    """Write an array as a ``.npy`` file, whole or not at all. Returns its sha256."""
    buffer = io.BytesIO()
    np.save(buffer, table, allow_pickle=False)
    return write_whole(path, buffer.getvalue())


def field_kinds(fields: Mapping[str, Any], media: Mapping[str, tuple[bytes, str]]) -> dict[str, str]:
    """What each field holds, as the manifest says it. Raises ValueError for names that the format cannot hold."""
    kinds = {name: _kind(value) for name, value in fields.items()}
    for name, (_, suffix) in media.items():
        if not _SUFFIX.match(suffix):
            raise ValueError(f"suffix {suffix!r}: a dot and letters or digits are needed, such as '.bin'")
        kinds[name] = f"bytes {suffix}"
    if len(kinds) != len(fields) + len(media) or "id" in kinds:
        raise ValueError("a field is both text and media, or is called 'id'")
    for name in kinds:
        _check_name("field", name)
    return kinds


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, list) and value:
        if all(isinstance(each, str) for each in value):
            return "texts"
        if all(isinstance(each, (int, float)) for each in value):
            return "numbers"
    return "json"


def _check_name(kind: str, name: str) -> None:
    """Raise ValueError where a split or field cannot be part of a member's name; ``json`` is the record's."""
    if not is_name(name):
        raise ValueError(f"{kind} {name!r}: a name without dots, colons and slashes, and not 'json', is needed")


def merge_kinds(known: Mapping[str, str], kinds: Mapping[str, str]) -> dict[str, str]:
    """The kinds of the fields of earlier items and of another one; suffixes may differ, and the last one stays.

    Raises:
        ValueError: a field is of another kind than in the items before.
    """
    for field, kind in kinds.items():
        before = known.get(field, kind)
        if before.split()[0] != kind.split()[0]:
            raise ValueError(f"field {field!r} is {kind} here and was {before} in an earlier item")
    return {**known, **kinds}


def check_folder(out: Path) -> list[Path]:
    """What a folder holds that is a set, or is to become one; its manifest first. Nothing where there is no folder.

    Raises:
        UserError: it cannot be read, or holds files that are not a prepared set's.
    """
    try:
        there = sorted(out.iterdir(), key=lambda path: path.name != MANIFEST) if os.path.lexists(out) else []
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}: name another folder with --out") from error
    for path in there:
        if not (_OURS.match(path.name) or path.name in (ASSETS, WORK)):
            what = "which is not part of a prepared set: name an empty folder with --out"
            raise UserError(f"{out} holds '{path.name}', {what}")
    return there


def clear_set(out: Path) -> None:
    """Make ``out`` an empty folder but for work in progress; an older set loses its manifest first of all.

    Raises:
        UserError: it cannot be made, or holds files that are not a prepared set's.
    """
    there = check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in there:
            if path.name == ASSETS:
                shutil.rmtree(path)
            elif path.name != WORK:
                path.unlink()
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}: name another folder with --out") from error
