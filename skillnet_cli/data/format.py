"""The files of a prepared set: shards and their tables, ``manifest.json``, ``ledger.jsonl``.

A shard is a tar of samples as runs of plain members, with two small tables beside it. The manifest is written last, so
a set that has one is complete. The ledger has every item that came in, with what became of it and why.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Int64, UInt32
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.files import AtomicFile, write_whole
from skillnet_cli.untrusted import Untrusted, open_regular, parse_json, read_bytes, read_json, validate

MANIFEST = "manifest.json"
LEDGER = "ledger.jsonl"
ASSETS = "assets"
"""The folder of a prepared set for files that are no samples."""

WORK = ".work"
"""The folder of a set in the making where finished parts lie."""

LONGEST_NAME = 80
"""Bytes of the name of a split or a field: a tar's header has 100 for it and what stands around it."""
_NOT_IN_NAMES = re.compile(r"[./\\:\x00-\x1f\x7f-\x9f\u2028\u2029]")

USUAL_SPLITS = {
    "train": ("train", "training"),
    "dev": ("dev", "valid", "validation", "val", "eval", "development"),
    "test": ("test", "testing"),
}
"""The splits that training and evaluation know, and what else they are called."""


def is_name(name: str) -> bool:
    """Whether a split or a field can be called so: it becomes part of the names of files, and of ``SET:SPLIT``."""
    length = len(name.encode("utf-8", errors="surrogatepass"))
    return 0 < length <= LONGEST_NAME and name != "json" and name == name.strip() and not _NOT_IN_NAMES.search(name)


def usual_split(name: str) -> str | None:
    """The split that a name in any of its usual forms stands for (``Test``, ``valid``); None for other names."""
    known = {each: split for split, names in USUAL_SPLITS.items() for each in names}
    return known.get(name.strip().casefold())


# --- the manifest ---------------------------------------------------------------------------------------------------


def inside(path: Path) -> Path:
    """A file of a set, as it is given. A link that leads out of its folder is none of the set's.

    Raises:
        Untrusted: it is such a link.
    """
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(path.parent)):
        raise Untrusted("is a link that leads out of the set's folder")
    return path


def _not_a_step(name: str) -> str:
    if name in (".", ".."):
        raise ValueError("must be the name of a file")
    return name


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Count = Annotated[int, Field(ge=0, le=1 << 53)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PlainName = Annotated[str, Field(pattern=r"^[^/\\\x00]{1,255}$"), AfterValidator(_not_a_step)]
"""The name of a file in the set's own folder: no path."""


class ShardFacts(_Record):
    """One shard: the name of its tar, its items and bytes, the sha256 of the tar and of the tables beside it."""

    file: PlainName
    items: Count
    bytes: Count
    sha256: Sha256
    index_sha256: Sha256
    crc32_sha256: Sha256


class SplitFacts(_Record):
    """One split: its items, the fields that every one of them has, and its shards in order."""

    items: Count
    fields: tuple[str, ...]
    shards: tuple[ShardFacts, ...]


class Manifest(_Record):
    """Everything about a prepared set but its samples.

    ``fields`` says of each field what it holds (``bytes .png``, ``texts``, ``text``, ``numbers`` or ``json``);
    ``targets`` lists what each target can be; ``ledger`` counts the ledger's classes; ``choices`` and ``seed`` are
    all that the preparation chose; ``assets`` are files in its folder ``assets``, each with its sha256 (a vocabulary,
    say). ``asked`` is what the set was asked for with, see :mod:`skillnet_cli.prepare.asked`. Older sets state neither.
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
    ledger: dict[str, Count] = {}
    ledger_sha256: Sha256 | Literal[""] = ""
    assets: dict[PlainName, Sha256] = {}
    asked: dict[str, Any] = {}

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a prepared set. Raises UserError where the folder has none, or a damaged one."""
        path = folder / MANIFEST
        try:
            return validate(cls, read_json(inside(path)))
        except OSError as error:
            raise UserError(_why_none(folder)) from error
        except Untrusted as error:
            raise UserError(f"{path}: damaged, or of another version ({error}): prepare the set again") from error

    def write(self, folder: Path) -> None:
        """Make a folder a prepared set; everything else must be in it already."""
        write_whole(folder / MANIFEST, self.encode())

    def encode(self) -> bytes:
        """The bytes of ``manifest.json``."""
        absent = {name for name in ("assets", "asked") if not getattr(self, name)}
        return (self.model_dump_json(indent=1, exclude=absent) + "\n").encode()


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

_LONGEST_ROW = 1 << 24
"""Bytes of a row of the ledger; a longer one is damage."""

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
        """Leave it; what is not finished is deleted."""
        self._file.close()


def read_ledger(folder: Path) -> Iterator[Entry]:
    """The rows of a prepared set's ledger. Raises UserError where it is missing or damaged."""
    path = folder / LEDGER
    # Not files.read_json_lines: that passes over what is cut off, and a ledger that is cut off is damaged.
    try:
        with open_regular(inside(path)) as rows:
            for number, row in enumerate(iter(lambda: rows.readline(_LONGEST_ROW), b""), 1):
                yield _parse_row(path, number, row)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except Untrusted as error:
        raise UserError(f"{path}: {error}: prepare the set again") from error


def _parse_row(path: Path, number: int, row: bytes) -> Entry:
    try:
        values = parse_json(row)
        found = [values[name] for name in ("split", "id", "class", "reason")]
        if not all(isinstance(each, str) for each in found):
            raise TypeError
        return Entry(*found)
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
            record = parse_json(content)
            if not isinstance(record, dict):
                raise ValueError("its record is not a JSON object")
            sample.update(record)
        else:
            sample[field] = content
        start += _BLOCK + _padded(size)
    if not isinstance(sample.get("id"), str):
        raise ValueError("it has no id")
    return sample


def sample_id(head: bytes) -> str | None:
    """The id in the first bytes of a sample; None where more of it is needed, or it has none."""
    try:
        field, size = _parse_header(head[:_BLOCK])
        content = head[_BLOCK : _BLOCK + size]
        found = json.loads(str(content, "utf-8"))["id"] if field == "json" and len(content) == size else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _parse_header(block: bytes) -> tuple[str, int]:
    """The field and the size that a member's header states; places are those of the ustar header."""
    name = block[:100].rstrip(b"\0").decode("utf-8")
    _, _, rest = name.partition(".")
    if block[257:262] != b"ustar" or not rest:
        raise ValueError("there is no header where a member should begin")
    size = int(block[124:136].rstrip(b"\0 "), 8)
    if size < 0:
        raise ValueError("a member has a size below 0")
    return rest.partition(".")[0], size


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def end_of_archive(size: int) -> bytes:
    """What closes a tar of ``size`` bytes: two empty blocks, then zeros up to a whole record, as tar writes it."""
    total = -(-(size + 2 * _BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
    return bytes(total - size)


def tables_of(shard: Path) -> tuple[Path, Path]:
    """The paths of a shard's offset index and of its checksums."""
    return shard.with_suffix(".index.npy"), shard.with_suffix(".crc32.npy")


def read_offsets(shard: Path, facts: ShardFacts) -> Int64[np.ndarray, " ends"]:
    """Where the samples of a shard begin, and where the last one ends.

    Raises:
        FailedJob: the table is missing, a link that leads out, or not as it was written.
    """
    path, _ = tables_of(shard)
    offsets = _read_table(path, facts.index_sha256, "<i8", facts.items + 1)
    if offsets[0] != 0 or (np.diff(offsets) <= 0).any() or offsets[-1] > facts.bytes:
        raise FailedJob(f"{path}: altered or damaged (its offsets are not in ascending order): {_ADVICE}")
    return offsets


def read_checks(shard: Path, facts: ShardFacts) -> UInt32[np.ndarray, " items"]:
    """The checksum of each sample of a shard. Raises FailedJob as :func:`read_offsets` does."""
    _, path = tables_of(shard)
    return _read_table(path, facts.crc32_sha256, "<u4", facts.items)


_ADVICE = "see 'skillnet data verify', and prepare the set again"

_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(<i8|<u4)', 'fortran_order': False, 'shape': \((\d{1,16}),\), \} *\n", re.DOTALL
)
"""The header of a table of numbers, as numpy writes it. numpy's own reader evaluates it and believes what it says."""


def _read_table(path: Path, sha256: str, kind: str, entries: int) -> Any:
    """A table beside a shard, of that kind of numbers and with so many entries."""
    longest = 1024 + np.dtype(kind).itemsize * entries
    try:
        content = read_bytes(inside(path), longest)
    except OSError as error:
        raise FailedJob(f"{path}: {error.strerror}: {_ADVICE}") from error
    except Untrusted as error:
        raise FailedJob(f"{path}: altered or damaged ({error}): {_ADVICE}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise FailedJob(f"{path}: altered or damaged (checksum mismatch): {_ADVICE}")
    header = _NPY.match(content)
    if not header or header[1].decode() != kind:
        raise FailedJob(f"{path}: altered or damaged (it is no table of numbers): {_ADVICE}")
    found = (len(content) - header.end()) // np.dtype(kind).itemsize
    if int(header[2]) != entries or header.end() + found * np.dtype(kind).itemsize != len(content) or found != entries:
        raise FailedJob(f"{path}: altered or damaged (it has {int(header[2])} entries instead of {entries}): {_ADVICE}")
    return np.frombuffer(content, kind, offset=header.end())
