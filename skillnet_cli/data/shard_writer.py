"""Writes one shard: its tar, and the two tables beside it."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skillnet_cli.api import DamagedItem
from skillnet_cli.data.files import AtomicFile, write_whole
from skillnet_cli.data.manifest import ShardFacts
from skillnet_cli.data.shards import encode_sample, end_of_archive, tables_of


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
