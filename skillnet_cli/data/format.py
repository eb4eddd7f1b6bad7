"""The files of a prepared set: shards and their tables, ``manifest.json``, ``ledger.jsonl``.

A shard is a tar of samples as runs of plain members, with two small tables beside it. The manifest is written last, so
a set that has one is complete. The ledger has every item that came in, with what became of it and why.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from skillnet_cli.api import UserError
from skillnet_cli.files import AtomicFile

BLOCK = 512
SHARD_SUFFIXES = (".tar", ".index.npy", ".crc32.npy")

_NAME = re.compile(r"[^./\\\0]+\Z")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]+)+\Z")


def shard_stem(split: str, number: int) -> str:
    """The name that a shard and its two tables share: ``train-000012``."""
    return f"{split}-{number:06d}"


def tables_of(shard: Path) -> tuple[Path, Path]:
    """The paths of a shard's offset index and of its checksums."""
    return shard.with_suffix(".index.npy"), shard.with_suffix(".crc32.npy")


def encode_sample(key: str, record: Mapping[str, Any], media: Mapping[str, tuple[bytes, str]]) -> bytes:
    """The tar members of one sample, one after another, each padded to whole blocks.

    Args:
        key: what the names of its members begin with.
        record: id and fields, as JSON can say them.
        media: field -> (bytes, suffix with its dot).
    """
    members = [(f"{key}.json", _encode_record(record))]
    members += [(f"{key}.{field}{suffix}", content) for field, (content, suffix) in sorted(media.items())]
    return b"".join(_member(name, content) for name, content in members)


def _encode_record(record: Mapping[str, Any]) -> bytes:
    """JSON in the one form that the same record always has. Raises ValueError for what JSON cannot say."""
    text = json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def decode_sample(region: bytes) -> dict[str, Any]:
    """The sample that :func:`encode_sample` made bytes of. Raises ValueError where they are not those of a sample."""
    sample: dict[str, Any] = {}
    start = 0
    while start < len(region):
        field, size = _header(region[start : start + BLOCK])
        content = region[start + BLOCK : start + BLOCK + size]
        if len(content) != size:
            raise ValueError("a member goes beyond the end of its sample")
        if field == "json":
            sample.update(json.loads(str(content, "utf-8")))
        else:
            sample[field] = content
        start += BLOCK + _padded(size)
    return sample


def _padded(size: int) -> int:
    """``size`` bytes rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def end_of_archive(size: int) -> bytes:
    """What closes a tar of ``size`` bytes: two empty blocks, then zeros up to a whole record, as tar writes it."""
    total = -(-(size + 2 * BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
    return bytes(total - size)


def check_name(kind: str, name: str) -> None:
    """Raises ValueError where a split or field cannot be part of a member's name."""
    if not _NAME.match(name) or name == "json":
        raise ValueError(f"{kind} {name!r}: a name without dots and slashes, and not 'json', is needed")


def check_suffix(suffix: str) -> None:
    """Raises ValueError where ``suffix`` is not a file's, dot included."""
    if not _SUFFIX.match(suffix):
        raise ValueError(f"suffix {suffix!r}: a dot and letters or digits are needed, such as '.bin'")


def _member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(_padded(len(content)) - len(content))


def _header(block: bytes) -> tuple[str, int]:
    """The field and the size that a member's header states."""
    name = block[:100].rstrip(b"\0").decode("utf-8")
    _, _, rest = name.partition(".")
    if block[257:262] != b"ustar" or not rest:
        raise ValueError("a member's header is expected and not there")
    return rest.partition(".")[0], int(block[124:136].rstrip(b"\0 "), 8)


Rejection: TypeAlias = Literal["filtered", "duplicate", "unavailable", "damaged"]
"""Why an item is left out: by a stated rule, as a copy, because it could not be had, because it cannot be read."""

CLASSES = ("kept", *get_args(Rejection))
LEDGER = "ledger.jsonl"

MOST_REASONS = 1000
"""Different reasons that are counted apart, so that memory stays bounded."""

_SPECIFIC = re.compile(r"'[^']*'|\d+")

# Libraries put the addresses of objects into messages; the same input must give the same bytes.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class Entry:
    """What became of one item; ``why`` is one of :data:`CLASSES`."""

    split: str
    id: str
    why: str
    reason: str = ""


class LedgerCounts:
    """Counts classes and reasons; memory stays bounded."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[tuple[str, str]] = Counter()

    def add(self, entry: Entry) -> None:
        """Count one row. Raises ValueError where its class is none."""
        if entry.why not in CLASSES:
            raise ValueError(f"class {entry.why!r} is none of {', '.join(CLASSES)}")
        self._counts[entry.why] += 1
        key = (entry.why, _SPECIFIC.sub("…", _clean(entry.reason)))
        if entry.reason and (key in self._reasons or len(self._reasons) < MOST_REASONS):
            self._reasons[key] += 1

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


class Ledger:
    """Writes ``ledger.jsonl`` row by row and counts its classes; the file takes its name when it is finished."""

    def __init__(self, folder: Path) -> None:
        self._file = AtomicFile(folder / LEDGER)
        self._counts = LedgerCounts()

    @property
    def counts(self) -> dict[str, int]:
        """Class -> items, every class in it; they sum to what came in."""
        return self._counts.counts

    @property
    def reasons(self) -> dict[str, list[tuple[str, int]]]:
        """Class -> its reasons and their items, the most frequent first."""
        return self._counts.reasons

    def add(self, entry: Entry) -> None:
        """Write one row."""
        self._counts.add(entry)
        row = {"split": entry.split, "id": entry.id, "class": entry.why, "reason": _clean(entry.reason)}
        self._file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", errors="replace") + b"\n")

    def finish(self) -> str:
        """Make the ledger whole and return its sha256."""
        return self._file.finish()

    def close(self) -> None:
        """Leave it unfinished."""
        self._file.close()


def _clean(reason: str) -> str:
    """A reason without the addresses of objects."""
    return _ADDRESS.sub("", reason)


def encode_row(entry: Entry, facts: Any = None) -> bytes:
    """A row as parts keep it, short, with the facts of its item where there are any."""
    row = [entry.split, entry.id, entry.why, _clean(entry.reason), *([] if facts is None else [facts])]
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", errors="replace") + b"\n"


def read_ledger(folder: Path) -> Iterator[Entry]:
    """The rows of a prepared set's ledger. Raises UserError where it is missing or damaged."""
    path = folder / LEDGER
    try:
        with open(path, encoding="utf-8") as rows:
            for number, row in enumerate(rows, 1):
                yield _entry(path, number, row)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _entry(path: Path, number: int, row: str) -> Entry:
    try:
        values = json.loads(row)
        return Entry(values["split"], values["id"], values["class"], values["reason"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}, line {number}: not a row of a ledger: prepare the set again") from error


MANIFEST = "manifest.json"
ASSETS = "assets"
"""The folder of a prepared set for files that are no samples."""

WORK = ".work"
"""The folder of a set in the making where finished parts lie."""


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShardFacts(_Facts):
    """One shard: the name of its tar, its items and bytes, the sha256 of the tar and of the tables beside it."""

    file: str
    items: int
    bytes: int
    sha256: str
    index_sha256: str
    crc32_sha256: str


class SplitFacts(_Facts):
    """One split: its items, the fields that every one of them has, and its shards in order."""

    items: int
    fields: tuple[str, ...]
    shards: tuple[ShardFacts, ...]


class Manifest(_Facts):
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
        """The manifest of a prepared set. Raises UserError where the folder is none, unfinished or damaged."""
        path = folder / MANIFEST
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UserError(_why_none(folder)) from error
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
            raise UserError(f"{path}: damaged, or of another version ({what}): prepare it again") from error

    def encode(self) -> bytes:
        """The bytes of ``manifest.json``."""
        return (self.model_dump_json(indent=1, exclude=None if self.assets else {"assets"}) + "\n").encode()


def _why_none(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}: no such prepared set: make it with 'skillnet prepare'"
    if folder.is_dir() and any(path.name == WORK or path.name.startswith(LEDGER) for path in folder.iterdir()):
        return f"{folder}: an unfinished set: run prepare again"
    return f"{folder}: not a prepared set (it has no {MANIFEST}): name another folder, or run 'skillnet prepare'"
