"""A part: what became of one range. It is whole once its ``part.json`` is there, and made anew when its sources change.

``rows.jsonl`` has a line for each item that came in: split, id, class, reason and, where there are any, facts. The
samples lie in one shard a split. ``kept.npy`` says of each kept item which split and which fields it has, ``keys.npy``
what its id and its content are compared by. ``inputs.json.gz`` has every file that was read for it, as it was then.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt64
from pydantic import BaseModel, ConfigDict

from skillnet_cli.api import DamagedItem, FailedJob
from skillnet_cli.data.format import WORK, Entry, Ledger, ShardFacts, encode_sample, read_checks, read_offsets
from skillnet_cli.files import make_folder, write_whole
from skillnet_cli.prepare.preparer import Kept, Rejected
from skillnet_cli.prepare.writer import BEYOND_LIMIT, SAME_ID, ShardWriter, field_kinds, merge_kinds, write_npy
from skillnet_cli.sources.inputs import Stamp, changed, noted, stamp_of
from skillnet_cli.untrusted import MAX_BYTES, Untrusted, open_regular, parse_json, read_json, validate

PART = "part.json"
ROWS = "rows.jsonl"
KEPT = "kept.npy"
KEYS = "keys.npy"
INPUTS = "inputs.json.gz"

MAX_ITEMS = 1 << 32
"""Items of a part; a range with more could not be written anyway."""

_MOST_KINDS = 256
"""Splits, and different sets of fields, that one part may have: ``kept.npy`` has a byte for the number of each."""


class Inputs(BaseModel):
    """What ``inputs.json.gz`` says: the machine that read them, and each file with its stamp."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str
    files: dict[str, tuple[int, int, int] | None]


class PartFacts(BaseModel):
    """What ``part.json`` says: what the part was made of (``Plan.made_of``), the counts of the ledger's classes, the
    reasons, the shard of each split, and the kinds of fields that items have (``kept.npy`` names them by number)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_of: str = ""
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
            return cls(folder, validate(PartFacts, read_json(folder / PART)))
        except FileNotFoundError:
            return None
        except (OSError, Untrusted) as error:
            raise FailedJob(f"{folder / PART}: damaged: delete this part's folder and run prepare again") from error

    def inputs(self) -> Inputs:
        """The files that were read for it, each as it was. Raises FailedJob where the list of them is damaged."""
        path = self.folder / INPUTS
        try:
            with open_regular(path) as file, gzip.GzipFile(fileobj=file) as unpacked:
                content = unpacked.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise Untrusted(f"unpacks to more than {MAX_BYTES:,} bytes")
            return validate(Inputs, parse_json(content))
        except (OSError, EOFError, zlib.error, Untrusted) as error:
            raise FailedJob(f"{path}: damaged: delete this part's folder and run prepare again") from error

    def changed_inputs(self) -> list[str]:
        """The files that were read for it and are no longer as they were. Raises FailedJob as :meth:`inputs` does."""
        found = self.inputs()
        return changed(dict(found.files), found.machine == platform.node())

    def remove(self) -> None:
        """Delete it, the marker first."""
        (self.folder / PART).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def rows(self) -> Iterator[tuple[Entry, Any]]:
        """The rows of its items in order of the input, each with its facts.

        Raises:
            FailedJob: they are not those that were written.
        """
        left = Counter(self.facts.counts)
        with _damage_said(self.folder / ROWS), (self.folder / ROWS).open("rb") as rows:
            for row in rows:
                split, id, why, reason, *facts = parse_json(row)
                left[why] -= 1
                if left[why] < 0:
                    raise ValueError("it has other rows")
                yield Entry(split, id, why, reason), facts[0] if facts else None
            if any(left.values()):
                raise ValueError("it has other rows")

    def kept(self) -> UInt8[np.ndarray, "items 2"]:
        """For each kept item: which of the part's splits and shapes it has."""
        return _load(self.folder / KEPT, np.uint8, 2)

    def keys(self) -> UInt64[np.ndarray, "items 4"]:
        """For each kept item 16 bytes that stand for its id, then 16 for its content: zeros where it has none."""
        return _load(self.folder / KEYS, np.uint64, 4)

    def samples(self) -> Iterator[tuple[bytes, dict[str, str]]]:
        """The bytes of its samples in order of the input, each with the kinds of its fields.

        Raises:
            FailedJob: they are not as they were written.
        """
        shards = [_regions(self.folder / shard.file, shard) for shard in self.facts.splits.values()]
        kept = self.kept()
        with _damage_said(self.folder / KEPT):
            if len(kept) != self.facts.kept or (len(kept) and kept.max(0)[1] >= len(self.facts.shapes)):
                raise ValueError("it has other items")
            counts = np.bincount(kept[:, 0], minlength=len(shards)).tolist()
            if counts != [shard.items for shard in self.facts.splits.values()]:
                raise ValueError("it has other splits")
        for split, shape in kept:
            yield next(shards[split]), self.facts.shapes[shape]

    def common_fields(self, split: str) -> set[str]:
        """The fields that all kept items of a split have."""
        kept = self.kept()
        shapes = np.unique(kept[kept[:, 0] == list(self.facts.splits).index(split), 1])
        return set.intersection(*(set(self.facts.shapes[shape]) for shape in shapes))


def _folder_of(out: Path, number: int) -> Path:
    """Where a part lies: a thousand in a folder, since many a file system is slow where there are far more."""
    return out / WORK / "parts" / f"{number // 1000:06d}" / f"{number:06d}"


@contextmanager
def _damage_said(path: Path) -> Iterator[None]:
    """Raises FailedJob, naming the file, where one of a part is not as it was written."""
    try:
        yield
    except (OSError, ValueError, EOFError, MemoryError, SyntaxError) as error:
        advice = f"delete {path.parent} and run prepare again"
        raise FailedJob(f"{path}: altered or damaged: {advice}") from error


def _load(path: Path, kind: type, columns: int) -> np.ndarray:
    """A table of a part. Raises FailedJob where it is not as it was written."""
    with _damage_said(path):
        if path.stat().st_size > np.dtype(kind).itemsize * columns * MAX_ITEMS:
            raise ValueError("it is too large")
        table = np.load(path, allow_pickle=False)
        if table.ndim != 2 or table.shape[1] != columns or table.dtype.kind != "u":
            raise ValueError("it has other columns")
        return table.astype(kind)


def _regions(path: Path, facts: ShardFacts) -> Iterator[bytes]:
    offsets, checks = read_offsets(path, facts), read_checks(path, facts)
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
        made_of: what it is made of, for ``part.json``.
        files: what it counts as made of where its preparer opens files on its own, past :mod:`skillnet_cli.sources`.
    """

    def __init__(
        self,
        out: Path,
        number: int,
        bound: Callable[[str], int | None],
        keyed: bool,
        made_of: str = "",
        files: Iterable[Path] = (),
    ) -> None:
        self._made_of = made_of
        self._files = {str(path.absolute()): stamp_of(path) for path in files}
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
            inputs = stack.enter_context(noted())
            for item in items:
                if stopped():
                    raise InterruptedError
                self._add(item)
                if splits and all(self._full(split) for split in splits):
                    break
            return self._finish(inputs)

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

    def _finish(self, inputs: dict[str, Stamp]) -> PartFacts:
        facts = PartFacts(
            made_of=self._made_of,
            counts=self._rows.counts,
            reasons={why: reasons[:10] for why, reasons in self._rows.reasons.items()},
            splits={split: shard.finish() for split, shard in self._shards.items()},
            shapes=[json.loads(shape) for shape in self._shapes],
        )
        self._rows.finish()
        write_npy(self._folder / KEPT, np.frombuffer(self._kept, np.uint8).reshape(-1, 2))
        if self._keyed:
            write_npy(self._folder / KEYS, np.frombuffer(self._keys, "<u8").reshape(-1, 4))
        # ASCII: names of files need not be Unicode, and must come back.
        listed = json.dumps({"machine": platform.node(), "files": inputs or self._files}).encode()
        write_whole(self._folder / INPUTS, gzip.compress(listed, mtime=0))
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
