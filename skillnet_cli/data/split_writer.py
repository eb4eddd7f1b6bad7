"""Writes the shards of one split, one open at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from skillnet_cli.data.manifest import ShardFacts, SplitFacts
from skillnet_cli.data.shard_writer import ShardWriter, encode_item
from skillnet_cli.data.shards import shard_stem


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
