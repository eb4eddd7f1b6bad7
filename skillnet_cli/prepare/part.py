"""A part: what became of one range. It is whole once its ``part.json`` is there, and never written again.

``rows.jsonl`` has a line for each item that came in: split, id, class, reason and, where there are any, facts. The
samples lie in one shard a split. ``kept.npy`` says of each kept item which split and which fields it has, ``keys.npy``
what its id and its content are compared by.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt64
from pydantic import BaseModel, ConfigDict

from skillnet_cli.api import DamagedItem, FailedJob
from skillnet_cli.data.format import WORK, Entry, Ledger, ShardFacts, encode_sample, tables_of
from skillnet_cli.files import make_folder, write_whole
from skillnet_cli.prepare.preparer import Kept, Rejected
from skillnet_cli.prepare.writer import BEYOND_LIMIT, SAME_ID, ShardWriter, field_kinds, merge_kinds, write_npy

PART = "part.json"
ROWS = "rows.jsonl"
KEPT = "kept.npy"
KEYS = "keys.npy"

_MOST_KINDS = 256
"""Splits, and different sets of fields, that one part may have: ``kept.npy`` has a byte for the number of each."""


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


@dataclass(frozen=True)
class Part:
    """A finished part: its folder, and what ``part.json`` says."""

    folder: Path
    facts: PartFacts

    @classmethod
    def open(cls, out: Path, number: int) -> Part | None:
        """The part of the range at ``number``, of the set in ``out``; None where the range is still to be read.

        Raises:
            FailedJob: it is damaged.
        """
        folder = _folder_of(out, number)
        try:
            return cls(folder, PartFacts.model_validate_json((folder / PART).read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise FailedJob(f"{folder / PART}: damaged: delete this part's folder and run prepare again") from error

    def rows(self) -> Iterator[tuple[Entry, Any]]:
        """The rows of its items in order of the input, each with its facts."""
        with (self.folder / ROWS).open("rb") as rows:
            for row in rows:
                split, id, why, reason, *facts = json.loads(row)
                yield Entry(split, id, why, reason), facts[0] if facts else None

    def kept(self) -> UInt8[np.ndarray, "items 2"]:
        """For each kept item: which of the part's splits and shapes it has."""
        return np.load(self.folder / KEPT, allow_pickle=False)

    def keys(self) -> UInt64[np.ndarray, "items 4"]:
        """For each kept item 16 bytes that stand for its id, then 16 for its content: zeros where it has none."""
        return np.load(self.folder / KEYS, allow_pickle=False).astype(np.uint64)

    def samples(self) -> Iterator[tuple[bytes, dict[str, str]]]:
        """The bytes of its samples in order of the input, each with the kinds of its fields.

        Raises:
            FailedJob: they are not as they were written.
        """
        shards = [_regions(self.folder / shard.file) for shard in self.facts.splits.values()]
        for split, shape in self.kept():
            yield next(shards[split]), self.facts.shapes[shape]

    def common_fields(self, split: str) -> set[str]:
        """The fields that all kept items of a split have."""
        kept = self.kept()
        shapes = np.unique(kept[kept[:, 0] == list(self.facts.splits).index(split), 1])
        return set.intersection(*(set(self.facts.shapes[shape]) for shape in shapes))


def _folder_of(out: Path, number: int) -> Path:
    """Where a part lies: a thousand in a folder, since many a file system is slow where there are far more."""
    return out / WORK / "parts" / f"{number // 1000:06d}" / f"{number:06d}"


def _regions(path: Path) -> Iterator[bytes]:
    offsets, checks = (np.load(each, allow_pickle=False) for each in tables_of(path))
    with path.open("rb") as file:
        for size, check in zip(np.diff(offsets), checks, strict=True):
            region = file.read(size)
            if zlib.crc32(region) != check:
                raise FailedJob(f"{path}: altered or damaged: delete its folder and run prepare again")
            yield region


class _Rows(Ledger):
    """The rows of a part: short, and with the facts of their items."""

    def encode(self, entry: Entry, facts: Any) -> str:
        row = [entry.split, entry.id, entry.why, entry.reason, *([] if facts is None else [facts])]
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


class PartWriter:
    """Writes one part from the items of a range.

    Args:
        out: the set's folder.
        number: the place of the range.
        bound: split -> at most so many items, None without a bound.
        keyed: whether ids and contents will be compared with those of other parts.
    """

    def __init__(self, out: Path, number: int, bound: Callable[[str], int | None], keyed: bool) -> None:
        self._folder = _folder_of(out, number)
        self._number = number
        self._bound = bound
        self._keyed = keyed
        make_folder(self._folder, "name another folder with --out")
        self._rows = _Rows(self._folder / ROWS)
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

        Args:
            items: all items of the range, in order.
            splits: those that its items may belong to; empty where they are not known.
            stopped: whether to give up.

        Raises:
            InterruptedError: ``stopped`` says so; the part is not there.
        """
        with ExitStack() as stack:
            stack.callback(self._close)
            for item in items:
                if stopped():
                    raise InterruptedError
                self._add(item)
                if splits and all(self._full(split) for split in splits):
                    break
            return self._finish()

    def _add(self, item: Kept | Rejected) -> None:
        if isinstance(item, Rejected):
            return self._rows.add(Entry(item.split, item.id, item.why, item.reason))
        if (item.split, item.id) in self._ids:
            return self._rows.add(Entry(item.split, item.id, "duplicate", SAME_ID))
        if self._full(item.split):
            reason = BEYOND_LIMIT.format(self._bound(item.split))
            return self._rows.add(Entry(item.split, item.id, "filtered", reason))
        try:
            self._keep(item)
        except DamagedItem as error:
            self._rows.add(Entry(item.split, item.id, "damaged", str(error)))

    def _keep(self, item: Kept) -> None:
        kinds = field_kinds(item.fields, item.media)
        together = merge_kinds(self._kinds, kinds)
        # The key follows from the place in the input alone, so that the set's shards take a sample as it is.
        key = f"{self._number:06d}{len(self._kept) // 2:06d}"
        region = encode_sample(key, {"id": item.id, **item.fields}, item.media)
        if item.split not in self._shards:
            self._shards[item.split] = ShardWriter(self._folder / f"{item.split}.tar")
        self._shards[item.split].add(region)
        self._kinds = together
        shape = self._shapes.setdefault(json.dumps(kinds), len(self._shapes))
        place = list(self._shards).index(item.split)
        if max(shape, place) >= _MOST_KINDS:
            raise ValueError(f"a range has more than {_MOST_KINDS} splits or different sets of fields")
        self._kept += bytes((place, shape))
        if self._keyed:
            self._keys += _digest(f"{item.split}\0{item.id}")
            self._keys += bytes(16) if item.content is None else _digest(item.content)
        self._ids.add((item.split, item.id))
        self._rows.add(Entry(item.split, item.id, "kept"), item.facts)

    def _full(self, split: str) -> bool:
        bound, shard = self._bound(split), self._shards.get(split)
        return bound is not None and shard is not None and shard.items >= bound

    def _finish(self) -> PartFacts:
        facts = PartFacts(
            counts=self._rows.counts,
            reasons={why: reasons[:10] for why, reasons in self._rows.reasons.items()},
            splits={split: shard.finish() for split, shard in self._shards.items()},
            shapes=[json.loads(shape) for shape in self._shapes],
        )
        self._rows.finish()
        write_npy(self._folder / KEPT, np.frombuffer(self._kept, np.uint8).reshape(-1, 2))
        if self._keyed:
            write_npy(self._folder / KEYS, np.frombuffer(self._keys, "<u8").reshape(-1, 4))
        # Last of all: with it the part counts as whole.
        write_whole(self._folder / PART, facts.model_dump_json().encode())
        return facts

    def _close(self) -> None:
        self._rows.close()
        for shard in self._shards.values():
            shard.close()


def _digest(content: bytes | str) -> bytes:
    """16 bytes that stand for a content, never all zero: zeros stand for none."""
    raw = content.encode("utf-8", errors="surrogatepass") if isinstance(content, str) else content
    found = hashlib.blake2b(raw, digest_size=16).digest()
    return found if any(found) else b"\1" * 16
