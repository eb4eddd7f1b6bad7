"""Tables: anyone's as CSV, TSV, JSON lines or parquet, published ones as CSV files of any size, and JSON lists."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.files import write_whole
from skillnet_cli.sources.archives import Member
from skillnet_cli.sources.texts import LONGEST_LINE, SAMPLE, decode, detect

_LONGEST_CELL = 1 << 28  # Python's own bound, 128 KiB, is too little for a file of code
_LONGEST_RECORD = 1 << 16  # bytes of a row of several lines; after that many a quote counts as never closed


@dataclass(frozen=True)
class Row:
    """A row, counted from 1 below the header: its cells by column; or ``damage``, the reason why it cannot be read."""

    number: int
    cells: Mapping[str, Any] = field(default_factory=dict)
    damage: str | None = None


def _row(number: int, cells: Sequence[str], columns: Sequence[str]) -> Row:
    if len(cells) != len(columns):
        return Row(number, damage=f"row {number} has {len(cells)} cells, the header has {len(columns)}")
    return Row(number, dict(zip(columns, cells, strict=True)))


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a table, whose kind is the suffix of its name.

    Raises:
        UserError: the table is missing, of another kind, not UTF-8, or damaged as a whole.
    """
    read = _KINDS.get(path.suffix.lower())
    if read is None:
        raise UserError(f"table '{path}': its name must end in {', '.join(_KINDS)}")
    try:
        yield from read(path)
    except OSError as error:
        raise UserError(f"table '{path}': {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(f"table '{path}': not UTF-8 (byte 0x{byte:02x}): save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(f"table '{path}': not a valid {path.suffix} file ({error})") from error


def _delimited(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        header = next(lines, [])
        if len(set(header)) != len(header):
            raise UserError(f"table '{path}': two columns have the same name: {', '.join(header)}")
        for number, cells in enumerate(filter(None, lines), 1):
            yield _row(number, cells, header)


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(filter(str.strip, file), 1):
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError):
                cells = None
            if isinstance(cells, dict):
                yield Row(number, cells)
            else:
                yield Row(number, damage=f"row {number} is not a JSON object")


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"table '{path}': reading parquet needs pyarrow: pip install pyarrow") from error
    try:
        batches = parquet.ParquetFile(path).iter_batches()
        rows = (cells for batch in batches for cells in batch.to_pylist())
        yield from (Row(number, cells) for number, cells in enumerate(rows, 1))
    except pyarrow.ArrowException as error:
        raise UserError(f"table '{path}': not a valid {path.suffix} file ({error})") from error


_KINDS = {".csv": _delimited, ".tsv": _delimited, ".jsonl": _json_lines, ".parquet": _parquet}


class CsvFile:
    """A published CSV file of any size and usual encoding, read by ranges of rows.

    A row is a line, or several where a quoted cell holds line feeds. A quote that is never closed damages its own line
    and not the rest of the file, as it does in Python's csv.
    """

    def __init__(self, member: Member) -> None:
        self._member = member

    @cached_property
    def columns(self) -> list[str]:
        """The names of the columns. Raises UserError where the header is not text."""
        with self._member.open() as file:
            first = next(iter(_Records(file)), b"")
        try:
            return [name.strip() for name in _cells(first, detect(first)) or []]
        except UnicodeError as error:
            raise UserError(f"{self._member.name}: its header is not text: save it as UTF-8") from error

    def check_columns(self, needed: Sequence[str]) -> None:
        """Raises UserError where a column is missing."""
        for name in needed:
            if name not in self.columns:
                there = ", ".join(self.columns) or "none"
                raise UserError(f"{self._member.name}: it has no column '{name}', only {there}")

    def ranges(self, rows: int) -> list[tuple[int, int, int]]:
        """Divide the rows below the header into ranges of ``rows`` rows, in one pass over the file's bytes.

        Returns:
            Arguments for :meth:`read`.
        """
        found, start, number = [], 0, 0
        with self._member.open() as file:
            records = _Records(file)
            for _ in itertools.islice(records, 1):
                start = records.at
            for number, _ in enumerate(records, 1):
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
            encoding = detect(file.read(SAMPLE)).removesuffix("-sig")
        with self._member.open() as file:
            file.seek(start)
            for number, record in enumerate(itertools.islice(_Records(file), rows), first):
                try:
                    cells = _cells(record, encoding)
                except UnicodeError:
                    yield Row(number, damage=f"row {number} is not text in {encoding.upper()}")
                    continue
                if cells is None:
                    yield Row(number, damage=f"row {number} has a quote that is never closed")
                else:
                    yield _row(number, cells, self.columns)


def _cells(record: bytes, encoding: str) -> list[str] | None:
    """The cells of a row; None where their borders are ambiguous."""
    try:
        rows = list(csv.reader(io.StringIO(record.decode(encoding), newline=""), strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


class _Records:
    """The rows of a file as bytes, without empty lines; ``at`` is the byte behind the last one."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._ahead: deque[bytes] = deque()
        self.at = file.tell()

    def __iter__(self) -> Iterator[bytes]:
        while line := self._line():
            record = self._complete(line) if b'"' in line else line
            self.at += len(record)
            if record.strip():
                yield record

    def _line(self) -> bytes:
        return self._ahead.popleft() if self._ahead else self._file.readline(LONGEST_LINE)

    def _complete(self, line: bytes) -> bytes:
        """A line with those in which its quoted cells continue; the line alone where a quote is never closed."""
        taken: list[bytes] = []
        closed = True

        def lines() -> Iterator[str]:
            nonlocal closed
            for each in itertools.chain([line], iter(self._line, b"")):
                taken.append(each)
                yield each.decode("latin-1")  # quotes and line feeds are the same bytes in all these encodings
                if sum(map(len, taken)) > _LONGEST_RECORD:
                    break
            closed = False  # the reader wants more than there is

        try:
            next(csv.reader(lines(), strict=True), None)
        except csv.Error:
            closed = False
        if closed:
            return b"".join(taken)
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
