"""A part: what became of one range. It is whole once its ``part.json`` is there, and never written again.

``rows.jsonl`` has a line for each item that came in: split, id, class, reason and, where there are any, facts. The
samples lie in one shard a split. ``kept.npy`` says of each kept item which split and which fields it has, ``keys.npy``
what its id and its content are compared by.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from skillnet_cli.api import DamagedItem, FailedJob
from skillnet_cli.data.format import Entry, LedgerCounts, ShardFacts, check_name, encode_row
from skillnet_cli.files import AtomicFile, make_folder, write_whole
from skillnet_cli.prepare.preparer import Kept, Rejected
from skillnet_cli.prepare.writer import ShardWriter, check_kinds, encode_item, field_kinds, npy

PART = "part.json"
ROWS = "rows.jsonl"
KEPT = "kept.npy"
KEYS = "keys.npy"
MOST_KINDS = 256
"""Splits, and different sets of fields, that one part may have: each is told by a byte."""


class PartFacts(BaseModel):
    """What ``part.json`` says: the counts of the ledger's classes, the reasons, the shard of each split, and the kinds
    of fields that items have (``kept.npy`` names them by number)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: dict[str, int]
    reasons: dict[str, list[tuple[str, int]]]
    splits: dict[str, ShardFacts]
    shapes: list[dict[str, str]]

    @property
    def kept(self) -> int:
        """Items that the range kept."""
        return sum(facts.items for facts in self.splits.values())


def part_folder(work: Path, number: int) -> Path:
    """Where the part of the range at ``number`` lies: a thousand in a folder."""
    return work / "parts" / f"{number // 1000:06d}" / f"{number:06d}"


def read_part(work: Path, number: int) -> PartFacts | None:
    """What a finished part says of itself; None where the range is still to be read."""
    try:
        return PartFacts.model_validate_json((part_folder(work, number) / PART).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FailedJob(f"{part_folder(work, number) / PART}: damaged: delete this part's folder and go on") from error


class PartWriter:
    """Writes one part from the items of a range.

    Args:
        work: the work folder.
        number: the place of the range.
        bound: split -> at most so many items, None without a bound.
        keyed: whether ids and contents will be compared with those of other parts.
    """

    def __init__(self, work: Path, number: int, bound: Callable[[str], int | None], keyed: bool) -> None:
        self._folder = part_folder(work, number)
        self._number = number
        self._bound = bound
        self._keyed = keyed
        make_folder(self._folder, "name another folder with --out")
        self._rows = AtomicFile(self._folder / ROWS)
        self._counts = LedgerCounts()
        self._shards: dict[str, ShardWriter] = {}
        self._shapes: dict[str, int] = {}
        self._kinds: dict[str, str] = {}
        self._ids: set[tuple[str, str]] = set()
        self._kept = bytearray()
        self._keys = bytearray()

    def write(
        self, items: Iterable[Kept | Rejected], splits: tuple[str, ...], stopped: Callable[[], bool]
    ) -> PartFacts:
        """Write what becomes of every item; ends early when all of ``splits`` are full.

        Raises:
            InterruptedError: ``stopped`` says so; the part is not there.
        """
        with ExitStack() as stack:
            stack.callback(self._close)
            for item in items:
                if stopped():
                    raise InterruptedError
                self._take(item)
                if splits and all(self._full(split) for split in splits):
                    break
            return self._finish()

    def _take(self, item: Kept | Rejected) -> None:
        if isinstance(item, Rejected):
            return self._row(Entry(item.split, item.id, item.why, item.reason))
        if (item.split, item.id) in self._ids:
            return self._row(Entry(item.split, item.id, "duplicate", SAME_ID))
        if self._full(item.split):
            return self._row(Entry(item.split, item.id, "filtered", beyond(self._bound(item.split))))
        try:
            self._keep(item)
        except DamagedItem as error:
            self._row(Entry(item.split, item.id, "damaged", str(error)))

    def _keep(self, item: Kept) -> None:
        kinds = field_kinds(item.fields, item.media)
        check_kinds(self._kinds, kinds)
        # The key follows from the place in the input alone, so that a sample is copied as it is.
        key = f"{self._number:06d}{len(self._kept) // 2:06d}"
        region = encode_item(key, {"id": item.id, **item.fields}, dict(item.media))
        self._shard(item.split).add(region)
        self._kinds |= kinds
        shape = self._shapes.setdefault(json.dumps(kinds), len(self._shapes))
        place = list(self._shards).index(item.split)
        if max(shape, place) >= MOST_KINDS:
            raise ValueError(f"a range has more than {MOST_KINDS} splits or different sets of fields")
        self._kept += bytes((place, shape))
        if self._keyed:
            self._keys += _digest(f"{item.split}\0{item.id}") + (
                bytes(16) if item.content is None else _digest(item.content)
            )
        self._ids.add((item.split, item.id))
        self._row(Entry(item.split, item.id, "kept"), item.facts)

    def _row(self, entry: Entry, facts: Any = None) -> None:
        self._rows.write(encode_row(entry, facts))
        self._counts.add(entry)

    def _shard(self, split: str) -> ShardWriter:
        if split not in self._shards:
            check_name("split", split)
            self._shards[split] = ShardWriter(self._folder / f"{split}.tar")
        return self._shards[split]

    def _full(self, split: str) -> bool:
        bound, shard = self._bound(split), self._shards.get(split)
        return bound is not None and shard is not None and shard.items >= bound

    def _finish(self) -> PartFacts:
        facts = PartFacts(
            counts=self._counts.counts,
            reasons={why: reasons[:10] for why, reasons in self._counts.reasons.items()},
            splits={split: shard.finish() for split, shard in self._shards.items()},
            shapes=[json.loads(shape) for shape in self._shapes],
        )
        self._rows.finish()
        write_whole(self._folder / KEPT, npy(np.frombuffer(self._kept, np.uint8).reshape(-1, 2)))
        if self._keyed:
            write_whole(self._folder / KEYS, npy(np.frombuffer(self._keys, "<u8").reshape(-1, 4)))
        write_whole(self._folder / PART, facts.model_dump_json().encode())
        return facts

    def _close(self) -> None:
        self._rows.close()
        for shard in self._shards.values():
            shard.close()


SAME_ID = "another item has this id"


def beyond(limit: int | None) -> str:
    """The reason for what a limit leaves out."""
    return f"beyond the limit of {limit}"


def _digest(content: bytes | str) -> bytes:
    """16 bytes that stand for a content, never all zero."""
    raw = content.encode("utf-8", errors="surrogatepass") if isinstance(content, str) else content
    found = hashlib.blake2b(raw, digest_size=16).digest()
    return found if any(found) else b"\1" * 16


def read_rows(work: Path, number: int) -> Iterator[tuple[Entry, Any]]:
    """The rows of a part, each with its facts."""
    with open(part_folder(work, number) / ROWS, "rb") as rows:
        for row in rows:
            split, id, why, reason, *facts = json.loads(row)
            yield Entry(split, id, why, reason), facts[0] if facts else None


def sum_counts(parts: Iterable[PartFacts]) -> tuple[dict[str, int], dict[str, list[tuple[str, int]]]]:
    """The counts of the classes, and of their reasons, over several parts."""
    counts: Counter[str] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    for part in parts:
        counts.update(part.counts)
        reasons.update({(why, reason): count for why, each in part.reasons.items() for reason, count in each})
    found: dict[str, list[tuple[str, int]]] = {}
    for (why, reason), count in reasons.most_common():
        found.setdefault(why, []).append((reason, count))
    return dict(counts), found
