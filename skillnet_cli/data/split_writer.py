"""Writes the shards of one split, one open at a time."""

from __future__ import annotations

import io
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from skillnet_cli.api import DamagedItem
from skillnet_cli.data.files import AtomicFile, write_whole
from skillnet_cli.data.manifest import ShardFacts, SplitFacts
from skillnet_cli.data.shards import encode_sample, end_of_archive, shard_stem, tables_of


class SplitWriter:
    """The shards of one split; ``shard_items`` of its samples in each."""

    def __init__(self, out: Path, name: str, shard_items: int) -> None:
        self._out = out
        self._name = name
        self._shard_items = shard_items
        self._shards: list[ShardFacts] = []
        self._items = 0
        self._fields: set[str] | None = None
        self._open: _ShardWriter | None = None

    def add(self, record: dict[str, Any], media: Mapping[str, tuple[bytes, str]], fields: Collection[str]) -> None:
        """Append a sample, which has these fields. Raises DamagedItem where it cannot be stored."""
        region = _encode(f"{self._items:08d}", record, media)
        if self._open is None:
            self._open = _ShardWriter(self._out / f"{shard_stem(self._name, len(self._shards))}.tar")
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


class _ShardWriter:
    """One tar with its two tables."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tar = AtomicFile(path)
        self._offsets = [0]
        self._checks: list[int] = []

    @property
    def items(self) -> int:
        return len(self._checks)

    def add(self, region: bytes) -> None:
        self._tar.write(region)
        self._offsets.append(self._tar.size)
        self._checks.append(zlib.crc32(region))

    def finish(self) -> ShardFacts:
        self._tar.write(end_of_archive(self._tar.size))
        index, checks = tables_of(self._path)
        return ShardFacts(
            file=self._path.name,
            items=self.items,
            bytes=self._tar.size,
            sha256=self._tar.finish(),
            index_sha256=write_whole(index, _npy(np.array(self._offsets, dtype="<i8"))),
            crc32_sha256=write_whole(checks, _npy(np.array(self._checks, dtype="<u4"))),
        )

    def close(self) -> None:
        self._tar.close()


def _encode(key: str, record: Mapping[str, Any], media: Mapping[str, tuple[bytes, str]]) -> bytes:
    try:
        return encode_sample(key, record, media)
    except ValueError as error:  # UnicodeEncodeError is one
        raise DamagedItem(f"it cannot be stored: {error}") from error


def _npy(table: Integer[np.ndarray, " entries"]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, table, allow_pickle=False)
    return buffer.getvalue()
