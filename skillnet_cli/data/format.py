"""The files of a prepared set: shards and their tables, ``manifest.json``, ``ledger.jsonl``.

A shard is a tar of samples as runs of plain members, with two small tables beside it. The manifest is written last, so
a set that has one is complete. The ledger has every item that came in, with what became of it and why.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Integer
from pydantic import BaseModel, ConfigDict, ValidationError

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.files import AtomicFile, write_whole

MANIFEST = "manifest.json"
LEDGER = "ledger.jsonl"
ASSETS = "assets"
"""The folder of a prepared set for files that are no samples."""

WORK = ".work"
"""The folder of a set in the making where finished parts lie."""

# --- the manifest ---------------------------------------------------------------------------------------------------


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShardFacts(_Record):
    """One shard: the name of its tar, its items and bytes, the sha256 of the tar and of the tables beside it."""

    file: str
    items: int
    bytes: int
    sha256: str
    index_sha256: str
    crc32_sha256: str


class SplitFacts(_Record):
    """One split: its items, the fields that every one of them has, and its shards in order."""

    items: int
    fields: tuple[str, ...]
    shards: tuple[ShardFacts, ...]


class Manifest(_Record):
    """Everything about a prepared set but its samples.

    ``fields`` says of each field what it holds (``bytes .png``, ``texts``, ``text``, ``numbers`` or ``json``);
    ``targets`` lists what each target can be; ``ledger`` counts the ledger's classes; ``choices`` and ``seed`` are
    all that the preparation chose; ``assets`` are files in its folder ``assets``, each with its sha256 (a vocabulary,
    say), which older sets do not state.
    """

    format: Literal[1] = 1
    name: str
    version: str
    licence: str
    source: tuple[str, ...]
    seed: int
    choices: dict[str, Any]
    fields: dict[str, str] = {}
    targets: dict[str, list[str]] = {}
    splits: dict[str, SplitFacts] = {}
    ledger: dict[str, int] = {}
    ledger_sha256: str = ""
    assets: dict[str, str] = {}

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a prepared set. Raises UserError where the folder has none, or a damaged one."""
        path = folder / MANIFEST
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UserError(_why_none(folder)) from error
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
            raise UserError(f"{path}: damaged, or of another version ({what}): prepare the set again") from error

    def write(self, folder: Path) -> None:
        """Make a folder a prepared set; everything else must be in it already."""
        write_whole(folder / MANIFEST, self.encode())

    def encode(self) -> bytes:
        """The bytes of ``manifest.json``."""
        return (self.model_dump_json(indent=1, exclude=None if self.assets else {"assets"}) + "\n").encode()


def _why_none(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}: no such prepared set: make it with 'skillnet prepare'"
    if folder.is_dir() and any(path.name == WORK or path.name.startswith(LEDGER) for path in folder.iterdir()):
        return f"{folder}: an unfinished set: run prepare again"
    return f"{folder}: not a prepared set (it has no {MANIFEST}): name another folder, or run 'skillnet prepare'"


# --- the ledger -----------------------------------------------------------------------------------------------------

Rejection: TypeAlias = Literal["filtered", "duplicate", "unavailable", "damaged"]
"""Why an item is left out: by a stated rule, as a copy, because it could not be had, because it cannot be read."""

CLASSES = ("kept", *get_args(Rejection))

_MOST_REASONS = 1000
"""Different reasons that are counted apart, so that memory stays bounded."""

# What makes reasons of one kind differ: they are counted without it.
_NAME_OR_NUMBER = re.compile(r"'[^']*'|\d+")

# Libraries put the addresses of objects into messages; the same input must give the same bytes.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class Entry:
    """What became of one item; ``why`` is one of :data:`CLASSES`."""

    split: str
    id: str
    why: str
    reason: str = ""

    def __post_init__(self) -> None:
        if self.reason:
            object.__setattr__(self, "reason", _ADDRESS.sub("", self.reason))


class Ledger:
    """Writes rows, one an item, and counts their classes and reasons; memory stays bounded.

    The file has its name when it is finished. A subclass may write rows in another form.
    """

    def __init__(self, path: Path) -> None:
        self._file = AtomicFile(path)
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[tuple[str, str]] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """Class -> items, every class in it; they sum to what came in."""
        return {why: self._counts[why] for why in CLASSES}

    @property
    def reasons(self) -> dict[str, list[tuple[str, int]]]:
        """Class -> its reasons and their items, the most frequent first; names and numbers are left out of them."""
        found: dict[str, list[tuple[str, int]]] = {}
        for (why, reason), count in self._reasons.most_common():
            found.setdefault(why, []).append((reason, count))
        return found

    def add(self, entry: Entry, facts: Any = None) -> None:
        """Write and count one row. Raises ValueError where its class is not one of :data:`CLASSES`."""
        if entry.why not in CLASSES:
            raise ValueError(f"class {entry.why!r} is not one of {', '.join(CLASSES)}")
        self._counts[entry.why] += 1
        if entry.reason:
            key = (entry.why, _NAME_OR_NUMBER.sub("…", entry.reason))
            if key in self._reasons or len(self._reasons) < _MOST_REASONS:
                self._reasons[key] += 1
        self._file.write(self.encode(entry, facts).encode("utf-8", errors="replace") + b"\n")

    def encode(self, entry: Entry, facts: Any) -> str:
        """A row; ``facts`` are for the forms that keep them."""
        row = {"split": entry.split, "id": entry.id, "class": entry.why, "reason": entry.reason}
        return json.dumps(row, ensure_ascii=False)

    def check_kept(self, name: str) -> None:
        """Raise UserError where nothing came in, FailedJob where all of it was rejected; ``name`` is the set's."""
        counts = self.counts
        if not any(counts.values()):
            raise UserError(f"{name}: the source holds no items: check what it points to")
        if not counts["kept"]:
            rejected = ", ".join(f"{count} {why}" for why, count in counts.items() if count)
            raise FailedJob(f"{name}: no item could be kept ({rejected}): see {self._file.path}")

    def finish(self) -> str:
        """Complete the file and return its sha256."""
        return self._file.finish()

    def close(self) -> None:
        """Leave it unfinished."""
        self._file.close()


def read_ledger(folder: Path) -> Iterator[Entry]:
    """The rows of a prepared set's ledger. Raises UserError where it is missing or damaged."""
    path = folder / LEDGER
    # Not files.read_json_lines: that passes over what is cut off, and a ledger that is cut off is damaged.
    try:
        with path.open(encoding="utf-8") as rows:
            for number, row in enumerate(rows, 1):
                yield _parse_row(path, number, row)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _parse_row(path: Path, number: int, row: str) -> Entry:
    try:
        values = json.loads(row)
        return Entry(values["split"], values["id"], values["class"], values["reason"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}, line {number}: not a row of a ledger: prepare the set again") from error


# --- shards and samples ---------------------------------------------------------------------------------------------

SHARD_SUFFIXES = (".tar", ".index.npy", ".crc32.npy")

_BLOCK = 512
"""Bytes of a tar's header; content is padded to as many."""


def encode_sample(key: str, record: Mapping[str, Any], media: Mapping[str, tuple[bytes, str]]) -> bytes:
    """The tar members of one sample, one after another, each padded to whole blocks.

    Args:
        key: what the names of its members begin with.
        record: id and fields, as JSON can hold them.
        media: field -> (bytes, suffix with its dot).

    Raises:
        DamagedItem: JSON or UTF-8 cannot hold the record: a lone surrogate, or a number that is not finite.
    """
    try:
        # One form for a record, so that the same input gives the same bytes.
        text = json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
        members = [(f"{key}.json", text.encode("utf-8"))]
        members += [(f"{key}.{field}{suffix}", content) for field, (content, suffix) in sorted(media.items())]
        return b"".join(_member(name, content) for name, content in members)
    except ValueError as error:  # UnicodeEncodeError is one
        raise DamagedItem(f"it cannot be stored: {error}") from error


def _member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(_padded(len(content)) - len(content))


def decode_sample(region: bytes) -> dict[str, Any]:
    """The sample that :func:`encode_sample` made bytes of. Raises ValueError where they are not those of a sample."""
    sample: dict[str, Any] = {}
    start = 0
    while start < len(region):
        field, size = _parse_header(region[start : start + _BLOCK])
        content = region[start + _BLOCK : start + _BLOCK + size]
        if len(content) != size:
            raise ValueError("a member goes beyond the end of its sample")
        if field == "json":
            sample.update(json.loads(str(content, "utf-8")))
        else:
            sample[field] = content
        start += _BLOCK + _padded(size)
    return sample


def _parse_header(block: bytes) -> tuple[str, int]:
    """The field and the size that a member's header states; places are those of the ustar header."""
    name = block[:100].rstrip(b"\0").decode("utf-8")
    _, _, rest = name.partition(".")
    if block[257:262] != b"ustar" or not rest:
        raise ValueError("there is no header where a member should begin")
    return rest.partition(".")[0], int(block[124:136].rstrip(b"\0 "), 8)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def end_of_archive(size: int) -> bytes:
    """What closes a tar of ``size`` bytes: two empty blocks, then zeros up to a whole record, as tar writes it."""
    total = -(-(size + 2 * _BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
    return bytes(total - size)


def tables_of(shard: Path) -> tuple[Path, Path]:
    """The paths of a shard's offset index and of its checksums."""
    return shard.with_suffix(".index.npy"), shard.with_suffix(".crc32.npy")


def read_table(path: Path, sha256: str) -> Integer[np.ndarray, " entries"]:
    """A table beside a shard.

    Raises:
        FailedJob: it is missing, or its checksum is not ``sha256``.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FailedJob(f"{path}: {error.strerror}: prepare the set again") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise FailedJob(f"{path}: altered or damaged (checksum mismatch): prepare the set again")
    return np.load(io.BytesIO(content), allow_pickle=False)
