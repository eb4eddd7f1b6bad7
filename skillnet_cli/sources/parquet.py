"""Tables in parquet files, those of Hugging Face's datasets with pictures and recordings in them included."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.sources.members import open_file
from skillnet_cli.sources.rows import Enclosed, Row

_ROWS = 65_536  # at a time, unless they are large
_FEW_ROWS = 16  # at a time of a table that holds files, so that memory holds few of them
_FEW_BYTES = 16 << 20  # likewise, whatever the table holds
_BUFFER = 1 << 20  # bytes read at once of a column, which would otherwise be read whole
_ROWS_A_BYTE = 64  # of a damaged group that may be counted: more are a claim that would not end


def parquet_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a parquet file.

    A column of bytes, or of the ``bytes`` and ``path`` that Hugging Face's datasets write for a picture or a recording,
    has files for cells; where there is a path alone, that is the cell, unless it leads out of the table's folder: such
    tables are fetched, their paths are anyone's. Where a page is damaged, all rows that its group still has are damaged
    rows: parquet gives them no other end.

    Raises:
        UserError: it is no parquet file, or pyarrow is missing.
    """
    with _opened(path) as table:
        enclosing = {field.name for field in table.schema_arrow if _is_file(field.type)}
        columns = {name: _FileColumn(path, name) for name in enclosing}
        number = 0
        for batch, rows in _batches(table, path, _FEW_ROWS if enclosing else _ROWS):
            for cells in _values(batch, rows):
                number += 1
                try:
                    if cells is None:
                        raise DamagedItem(f"row {number} cannot be read: its part of the table is damaged")
                    files = {name: _cell(cells[name], columns[name], number - 1) for name in enclosing}
                except DamagedItem as error:
                    yield Row(number, damage=str(error))
                else:
                    yield Row(number, {**cells, **files})


def _batches(
    table: Any, path: Path, most: int, columns: Sequence[str] | None = None
) -> Iterator[tuple[Any | None, int]]:
    """Batches of at most so many rows, fewer where they are large, and their rows; None for those that are damaged."""
    damages = _damages()
    for number in range(table.metadata.num_row_groups):
        group = table.metadata.row_group(number)
        left, largest = group.num_rows, group.total_byte_size // max(1, group.num_rows)
        size = max(1, min(most, _FEW_BYTES // max(1, largest)))
        try:
            for batch in table.iter_batches(size, row_groups=[number], columns=columns):
                left -= batch.num_rows
                yield batch, batch.num_rows
        except damages as error:
            if getattr(error, "errno", None) is not None or left > _ROWS_A_BYTE * path.stat().st_size:
                raise
        if left > 0:
            yield None, left


def _values(batch: Any | None, rows: int) -> Iterator[dict[str, Any] | None]:
    """The rows of a batch, None for each that is damaged: by a text that is not UTF-8, for instance."""
    if batch is None:
        yield from itertools.repeat(None, rows)
        return
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for place in range(rows):
            try:
                yield batch.slice(place, 1).to_pylist()[0]
            except (ValueError, OverflowError):
                yield None


def _damages() -> tuple[type[Exception], ...]:
    """What pyarrow raises where a page is damaged; an OSError of its own has no number."""
    import pyarrow

    return pyarrow.ArrowException, OSError, ValueError, OverflowError


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"table '{path}': reading parquet needs pyarrow: pip install pyarrow") from error
    damages = _damages()
    try:
        with open_file(path) as file:
            yield parquet.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True)
    except damages as error:
        if getattr(error, "errno", None) is not None:
            raise
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"table '{path}': not a valid {path.suffix} file ({said})") from error


def _is_file(kind: Any) -> bool:
    """Whether the values of an Arrow type are files' bytes, or such with a path."""
    from pyarrow import types

    if types.is_struct(kind):
        parts = {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}
        return parts.keys() == {"bytes", "path"} and (_is_bytes(parts["bytes"]) or types.is_null(parts["bytes"]))
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _cell(value: Any, column: _FileColumn, row: int) -> Enclosed | str | None:
    content, path = _parts(value)
    if content is None:
        if path and (Path(path).is_absolute() or ".." in Path(path).parts):
            raise DamagedItem(f"the path '{path}' leads out of the table's folder")
        return path
    return Enclosed("", PurePosixPath(path or "").suffix.lower(), partial(column.read, row), content)


def _parts(value: Any) -> tuple[bytes | None, str | None]:
    """The bytes and the path of a cell, None for what it lacks."""
    return (value["bytes"], value["path"]) if isinstance(value, dict) else (value, None)


class _FileColumn:
    """A column of files, of which memory holds a few rows: rows that are asked for in order are read once.

    Args:
        path: of the parquet file.
        name: of the column.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._batches: Iterator[tuple[list[Any], int]] = iter(())
        self._batch: list[Any] = []
        self._first, self._rows = 0, 0

    def read(self, row: int) -> bytes:
        """The file of a row, counted from 0. Raises DamagedItem where the table no longer has it."""
        if row < self._first or not self._rows:
            self._batches, self._first, self._rows = self._read(), 0, 0
        try:
            while row >= self._first + self._rows:
                self._first += self._rows
                self._batch, self._rows = next(self._batches)
        except (StopIteration, UserError, OSError) as error:
            self._rows = 0
            raise DamagedItem(f"row {row + 1} cannot be read again: the table has changed meanwhile") from error
        content, _ = _parts(self._batch[row - self._first] if self._batch else None)
        if content is None:
            raise DamagedItem(f"row {row + 1} cannot be read again: the table has changed meanwhile")
        return content

    def _read(self) -> Iterator[tuple[list[Any], int]]:
        """Batches of files, none where they are damaged, and how many rows each is for."""
        with _opened(self._path) as table:
            for batch, rows in _batches(table, self._path, _FEW_ROWS, [self._name]):
                yield [] if batch is None else batch.column(0).to_pylist(), rows
