"""Tables: anyone's of any kind, published ones as CSV files of any size, and JSON lists."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.data.format import usual_split
from skillnet_cli.files import write_whole
from skillnet_cli.sources.folders import files_below
from skillnet_cli.sources.members import Member, file_member, open_file
from skillnet_cli.sources.parquet import parquet_rows
from skillnet_cli.sources.rows import PART, Row
from skillnet_cli.sources.texts import LONGEST_LINE, LineFile, decode, read_lines
from skillnet_cli.sources.webdataset import tar_rows
from skillnet_cli.untrusted import Untrusted

_LONGEST_RECORD = 1 << 18  # bytes of a row of several lines; after that many a quote counts as never closed
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_HEAD = 64  # lines by which the separator is found
_LARGEST_LIST = 256 << 20  # bytes of a table that is one JSON list: it is read whole


def _row(number: int, cells: Sequence[str], columns: Sequence[str]) -> Row:
    if not any(map(str.strip, cells[len(columns) :])):  # nothing stands behind the last column
        cells = cells[: len(columns)]
    if len(cells) != len(columns):
        return Row(number, damage=f"row {number} has {len(cells)} cells, the header has {len(columns)}")
    return Row(number, dict(zip(columns, cells, strict=True)))


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a table, whose kind is the suffix of its name and whose encoding is any usual one.

    A folder of parquet files, as Hugging Face's datasets are published, or of WebDataset's tars is one table; where it
    has no column :data:`PART`, that is the part that each file's name or folder says. What lies in the table itself is
    a cell of the class :class:`Enclosed`.

    Raises:
        UserError: the table is missing, of another kind, or damaged as a whole.
    """
    read = _folder if path.is_dir() else _KINDS.get(path.suffix.lower())
    if read is None:
        raise UserError(f"table '{path}': its name must end in {', '.join(_KINDS)}")
    try:
        yield from read(path)
    except (OSError, Untrusted) as error:
        raise UserError(f"table '{path}': {getattr(error, 'strerror', None) or error}") from error


def unusual_separator(path: Path) -> str | None:
    """What separates the cells of a table, where its name says something else: "tabs" in a .csv, for instance."""
    if _KINDS.get(path.suffix.lower()) is not _delimited:
        return None
    separator = CsvFile(file_member(path.name, path)).separator
    return None if separator == _usual_separator(path.name) else _SEPARATORS[separator]


def _usual_separator(name: str) -> str:
    return "\t" if name.lower().endswith(".tsv") else ","


def _delimited(path: Path) -> Iterator[Row]:
    table = CsvFile(file_member(path.name, path), f"table '{path}'", exact=True)
    repeated = [name for name, count in Counter(filter(str.strip, table.columns)).items() if count > 1]
    if repeated:
        raise UserError(f"table '{path}': two columns have the same name: {', '.join(repeated)}")
    yield from table.rows()


def _json(path: Path) -> Iterator[Row]:
    """An object a line, or one list of objects: files of both kinds are called .json and .jsonl."""
    listed = _listed(path)
    if listed is not None:
        yield from (_of_json(number, each) for number, each in enumerate(listed, 1))
        return
    number = 0
    for line in read_lines(path):
        if not line.damage and not line.text.strip():
            yield Row(number, empty=True)
            continue
        number += 1
        damage = line.damage and line.damage.replace(f"line {line.number} ", f"row {number} ")
        yield Row(number, damage=damage) if damage else _of_json(number, _parsed(line.text))


def _listed(path: Path) -> list[Any] | None:
    """The list that a file holds; None where it holds lines. Raises UserError where the list is too large."""
    with open_file(path) as file:
        lines = LineFile(file)
        if not next((content for content, _ in lines if content.strip()), b"").lstrip().startswith(b"["):
            return None
    with open_file(path) as file:
        content = file.read(_LARGEST_LIST + 1)
    if len(content) > _LARGEST_LIST:
        most = f"{_LARGEST_LIST >> 20} MiB"
        raise UserError(f"table '{path}': a JSON list of more than {most} is not read: save it with an object a line")
    try:
        found = _parsed(decode(content))
    except DamagedItem:
        return None
    return found if isinstance(found, list) else None


def _parsed(text: str) -> Any:
    """The JSON in a text, None where there is none; numbers that are not finite become null, which pandas means."""
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, RecursionError):
        return None


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _of_json(number: int, cells: Any) -> Row:
    if isinstance(cells, dict):
        return Row(number, cells)
    return Row(number, damage=f"row {number} is not a JSON object")


def _folder(path: Path) -> Iterator[Row]:
    """The files of one kind in a folder as one table; a column says the part that a file's name or folder says."""
    kinds = (".parquet", ".tar")

    def refuse(name: str, reason: str) -> None:
        if PurePosixPath(name.lower()).suffix in kinds:
            raise UserError(f"table '{path}': {reason}: put the file itself in its place")

    files = [(PurePosixPath(name.lower()).suffix, name, each) for name, each in files_below(path, refuse)]
    kind = next((kind for kind in kinds if any(kind == suffix for suffix, _, _ in files)), None)
    if kind is None:
        raise UserError(f"table '{path}': the folder has no .parquet file and no .tar: name the table itself")
    number = 0
    for suffix, name, each in files:
        if suffix != kind:
            continue
        part = _part(name)
        for row in tar_rows(each, name) if kind == ".tar" else parquet_rows(each):
            number += 1
            yield replace(row, number=number, cells={PART: part, **row.cells} if part else row.cells)


def _part(name: str) -> str:
    """The part that a file's name begins with (``train-00000-of-00001.parquet``), or its folder's; "" for neither."""
    *folders, file = name.split("/")
    words = [re.split(r"[-_.]", file)[0], *reversed(folders)]
    return next((found for word in words if (found := usual_split(word))), "")


_KINDS = {
    ".csv": _delimited,
    ".tsv": _delimited,
    ".json": _json,
    ".jsonl": _json,
    ".parquet": parquet_rows,
    ".tar": tar_rows,
}


class CsvFile:
    """A CSV file of any size, usual encoding and separator, read whole or by ranges of rows.

    A row is a line, or several where a quoted cell holds line feeds. A quote that is never closed damages its own line
    and not the rest of the file: several lines are one row only where that has as many cells as the header.

    Args:
        member: the file.
        label: what it is called in messages.
        exact: whether blanks around the names of columns belong to them.
    """

    def __init__(self, member: Member, label: str | None = None, exact: bool = False) -> None:
        self._member = member
        self._label = label or member.name
        self._exact = exact

    @cached_property
    def separator(self) -> str:
        """What separates cells: as the name says, unless only another one divides the first lines alike."""
        with self._member.open() as file:
            lines = LineFile(file)
            head = [content.decode(lines.encoding, "replace") for content, _ in itertools.islice(lines, _HEAD)]
        usual = _usual_separator(self._member.name)
        return max(_SEPARATORS, key=lambda each: (*_how_well(each, head), each == usual))

    @cached_property
    def columns(self) -> list[str]:
        """The names of the columns. Raises UserError where the header is not text."""
        with self._member.open() as file:
            records = _Records(LineFile(file), self.separator)
            first = next((record for record in records if record.strip()), b"")
            encoding = records.encoding
        try:
            names = _cells(first, encoding, self.separator) or []
        except UnicodeError as error:
            raise UserError(f"{self._label}: its header is not text: save it as UTF-8") from error
        while names and not names[-1].strip():
            names.pop()
        return names if self._exact else [name.strip() for name in names]

    def check_columns(self, needed: Sequence[str]) -> None:
        """Raises UserError where a column is missing."""
        for name in needed:
            if name not in self.columns:
                there = ", ".join(self.columns) or "none"
                raise UserError(f"{self._label}: it has no column '{name}', only {there}")

    def rows(self) -> Iterator[Row]:
        """Yield all rows and empty lines; a broken one is a row with damage."""
        with self._member.open() as file:
            records = self._records(file)
            next((record for record in records if record.strip()), None)
            number = 0
            for record in records:
                number += bool(record.strip())
                yield self._row(number, record, records)
            if records.broken:
                yield Row(number + 1, damage=f"the file breaks off after row {number} ({records.broken})")

    def ranges(self, rows: int) -> list[tuple[int, int, int]]:
        """Divide the rows below the header into ranges of ``rows`` rows, in one pass over the file's bytes.

        Returns:
            Arguments for :meth:`read`.
        """
        found, start, number = [], 0, 0
        with self._member.open() as file:
            records = self._records(file)
            written = (None for record in records if record.strip())
            for _ in itertools.islice(written, 1):
                start = records.at
            for number, _ in enumerate(written, 1):
                if number % rows == 0:
                    found.append((start, number - rows + 1, rows))
                    start = records.at
        if number % rows:
            found.append((start, number - number % rows + 1, number % rows))
        return found

    def read(self, start: int, first: int, rows: int) -> Iterator[Row]:
        """Yield the rows of a range; a broken one is a row with damage.

        Args:
            start: the byte at which the range begins.
            first: the number of its first row, counted from 1 below the header.
            rows: how many it has.
        """
        with self._member.open() as file:
            records = self._records(file, start)
            written = (record for record in records if record.strip())
            for number, record in enumerate(itertools.islice(written, rows), first):
                yield self._row(number, record, records)

    def _records(self, file: Any, start: int = 0) -> _Records:
        lines = LineFile(file)
        if start:
            lines.seek(start)
        return _Records(lines, self.separator, len(self.columns))

    def _row(self, number: int, record: bytes, records: _Records) -> Row:
        if not record.strip():
            return Row(number, empty=True)
        if records.too_long:
            return Row(number, damage=f"row {number} has a line of more than {LONGEST_LINE} bytes")
        try:
            cells = _cells(record, records.encoding, self.separator)
        except UnicodeError:
            return Row(number, damage=f"row {number} is not text in {records.label}")
        if b"\0" in record:
            return Row(number, damage=f"row {number} is not text")
        if cells is None:
            what = "a quote that is never closed" if b'"' in record else "a carriage return within a cell"
            return Row(number, damage=f"row {number} has {what}")
        return _row(number, cells, self.columns)


def _how_well(separator: str, head: Sequence[str]) -> tuple[bool, float]:
    """Whether a separator divides the header at all, and the share of further lines with as many cells as that."""
    rows = [cells for cells in _parse(head, separator, strict=False) if cells]
    columns = len(rows[0]) if rows else 0
    return columns > 1, sum(len(cells) == columns for cells in rows[1:]) / max(1, len(rows) - 1)


def _parse(
    lines: Sequence[str] | Iterator[str] | io.StringIO, separator: str, strict: bool = True
) -> Iterator[list[str]]:
    csv.field_size_limit(LONGEST_LINE)  # Python's own bound, 128 KiB, is too little for a file of code
    try:
        yield from csv.reader(lines, delimiter=separator, strict=strict)
    except csv.Error:
        if strict:
            raise


def _cells(record: bytes, encoding: str, separator: str) -> list[str] | None:
    """The cells of a row; None where their borders are ambiguous."""
    try:
        rows = list(_parse(io.StringIO(record.decode(encoding).rstrip("\r\n"), newline=""), separator))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


class _Records:
    """The rows of a file as bytes, empty lines among them.

    Args:
        lines: where to begin.
        separator: of cells.
        columns: how many cells a row of several lines must have; None for the header itself.

    Attributes:
        at: the byte behind the last row.
        too_long: whether the last row is only the beginning of one.
    """

    def __init__(self, lines: LineFile, separator: str, columns: int | None = None) -> None:
        self._lines = lines
        self._iterator = iter(lines)
        self._separator = separator
        self._columns = columns
        self._ahead: deque[tuple[bytes, int]] = deque()
        self.at = lines.at
        self.too_long = False
        self.encoding = lines.encoding
        self.label = lines.label

    @property
    def broken(self) -> str | None:
        """The reason why the file breaks off, once it does."""
        return self._lines.broken

    def __iter__(self) -> Iterator[bytes]:
        while line := self._line():
            record, size = line
            self.too_long = size > len(record)
            if b'"' in record and not self.too_long:
                record = self._complete(record)
                size = len(record)
            self.at += size
            yield record

    def _line(self) -> tuple[bytes, int] | None:
        return self._ahead.popleft() if self._ahead else next(self._iterator, None)

    def _complete(self, line: bytes) -> bytes:
        """A line with those in which its quoted cells continue; the line alone where a quote is never closed."""
        taken: list[tuple[bytes, int]] = []
        closed = True

        def lines() -> Iterator[str]:
            nonlocal closed
            first = (line, len(line))
            for each in itertools.chain([first], iter(self._line, None)):
                taken.append(each)
                yield each[0].decode(self.encoding, "replace")
                if sum(size for _, size in taken) > _LONGEST_RECORD:
                    break
            closed = False  # the reader wants more than there is

        try:
            cells = next(_parse(lines(), self._separator), [])
        except csv.Error:
            closed = False
        if closed and (len(taken) == 1 or self._columns in (None, len(cells))):
            return b"".join(content for content, _ in taken)
        self._ahead.extendleft(reversed(taken[1:]))
        return line


def read_list(member: Member) -> list[Any]:
    """Return the list that a JSON file holds. Raises UserError where it is damaged or holds something else."""
    try:
        found = json.loads(decode(member.read()))
    except DamagedItem as error:
        raise UserError(f"{member.name}: {error}: fetch it again") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{member.name}: damaged, not JSON ({error}): fetch it again") from error
    if not isinstance(found, list):
        raise UserError(f"{member.name}: not a JSON list: check --source")
    return found


class Pieces:
    """A list kept in a folder in pieces, ``NAME-000000.json`` and so on, so that each can be worked on by itself.

    Args:
        folder: where the pieces lie.
        name: what their names begin with.
        size: entries of each piece.
    """

    def __init__(self, folder: Path, name: str, size: int = 1000) -> None:
        self._folder, self._name, self.size = folder, name, size

    def write(self, entries: Sequence[Any]) -> None:
        """Write a list in pieces."""
        for number, start in enumerate(range(0, len(entries), self.size)):
            piece = json.dumps(entries[start : start + self.size], ensure_ascii=False)
            # Lone surrogates, which JSON can hold, must come back.
            write_whole(self._path(number), piece.encode("utf-8", errors="surrogatepass"))

    def __len__(self) -> int:
        return sum(1 for _ in self._folder.glob(f"{self._name}-*.json"))

    def __iter__(self) -> Iterator[list[Any]]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> list[Any]:
        """The entries of a piece. Raises FailedJob where it is missing or damaged."""
        path = self._path(number)
        try:
            entries: list[Any] = json.loads(path.read_bytes().decode("utf-8", errors="surrogatepass"))
        except (OSError, ValueError) as error:
            raise FailedJob(f"{path}: damaged: delete {self._folder.parent} and start again") from error
        return entries

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:06d}.json"
