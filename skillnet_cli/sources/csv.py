"""The rows of large CSV files: where each stretch of them begins, and the rows from there on.

A row is a line, or several where a quoted cell holds line feeds. A quote that is never closed damages its own line and
not the rest of the file.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase

from skillnet_cli.api import UserError
from skillnet_cli.sources.tables import Row
from skillnet_cli.sources.texts import SAMPLE, detect
from skillnet_cli.sources.trees import Leaf

LONGEST = 1 << 16
"""Bytes of the longest row of several lines."""
LONGEST_LINE = 1 << 24


@dataclass(frozen=True)
class Stretch:
    """``rows`` rows of a file: the first begins at the byte ``start`` and is row number ``first``, counted from 1."""

    start: int
    first: int
    rows: int


def stretches(leaf: Leaf, rows: int) -> list[Stretch]:
    """A file in stretches of ``rows`` rows below its header, found in one pass over its bytes."""
    found, start, number = [], 0, 0
    with leaf.open() as file:
        records = _Records(file)
        for _ in itertools.islice(records, 1):
            start = records.at
        for number, _ in enumerate(records, 1):
            if number % rows == 0:
                found.append(Stretch(start, number - rows + 1, rows))
                start = records.at
    if number % rows:
        found.append(Stretch(start, number - number % rows + 1, number % rows))
    return found


def read_header(leaf: Leaf, *needed: str) -> list[str]:
    """The names of a file's columns. Raises UserError where one of ``needed`` is not among them."""
    with leaf.open() as file:
        first = next(iter(_Records(file)), b"")
    try:
        columns = [name.strip() for name in _cells(first, detect(first)) or []]
    except UnicodeError as error:
        raise UserError(f"{leaf.name}: its header is not text: save it as UTF-8") from error
    for name in needed:
        if name not in columns:
            raise UserError(f"{leaf.name}: it has no column '{name}', only {', '.join(columns) or 'none'}")
    return columns


def read_stretch(leaf: Leaf, stretch: Stretch) -> Iterator[Row]:
    """The rows of a stretch, each with its cells by column; a broken one is a row with damage."""
    columns = read_header(leaf)
    with leaf.open() as file:
        encoding = detect(file.read(SAMPLE)).removesuffix("-sig")
    with leaf.open() as file:
        file.seek(stretch.start)
        for number, record in enumerate(itertools.islice(_Records(file), stretch.rows), stretch.first):
            yield _row(number, record, columns, encoding)


def _row(number: int, record: bytes, columns: list[str], encoding: str) -> Row:
    try:
        cells = _cells(record, encoding)
    except UnicodeError:
        return Row(number, damage=f"row {number} is not text in {encoding.upper()}")
    if cells is None:
        return Row(number, damage=f"row {number} has a quote that is never closed")
    if len(cells) != len(columns):
        return Row(number, damage=f"row {number} has {len(cells)} cells, the header has {len(columns)}")
    return Row(number, dict(zip(columns, cells, strict=True)))


def _cells(record: bytes, encoding: str) -> list[str] | None:
    """The cells of a row; None where they cannot be told apart."""
    try:
        rows = list(csv.reader(io.StringIO(record.decode(encoding), newline=""), strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


class _Records:
    """The rows of a file as bytes, empty lines left out; ``at`` is the byte behind the last one."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._ahead: deque[bytes] = deque()
        self.at = file.tell()

    def __iter__(self) -> Iterator[bytes]:
        while line := self._line():
            record = self._whole(line) if b'"' in line else line
            self.at += len(record)
            if record.strip():
                yield record

    def _line(self) -> bytes:
        return self._ahead.popleft() if self._ahead else self._file.readline(LONGEST_LINE)

    def _whole(self, line: bytes) -> bytes:
        """A line with those that its quoted cells go on in; the line alone where a quote is never closed."""
        taken: list[bytes] = []
        closed = True

        def lines() -> Iterator[str]:
            nonlocal closed
            for each in itertools.chain([line], iter(self._line, b"")):
                taken.append(each)
                yield each.decode("latin-1")
                if sum(map(len, taken)) > LONGEST:
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
