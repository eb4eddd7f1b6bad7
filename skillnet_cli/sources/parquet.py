"""Tables in parquet files, those of Hugging Face's datasets with pictures and recordings in them included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.sources.members import open_file
from skillnet_cli.sources.rows import Enclosed, Row

_FEW_ROWS = 16  # at a time of a table that holds files, so that memory holds few of them
_FEW_BYTES = 16 << 20  # likewise, where the files are large
_BUFFER = 1 << 20  # bytes read at once of a column, which would otherwise be read whole


def parquet_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a parquet file.

    A column of bytes, or of the ``bytes`` and ``path`` that Hugging Face's datasets write for a picture or a recording,
    has files for cells; where there is a path alone, that is the cell, unless it leads out of the table's folder: such
    tables are fetched, their paths are anyone's.

    Raises:
        UserError: it is no parquet file, or pyarrow is missing.
    """
    with _opened(path) as table:
        enclosing = {field.name for field in table.schema_arrow if _is_file(field.type)}
        columns = {name: _FileColumn(path, name) for name in enclosing}
        number = 0
        for batch in table.iter_batches(_rows_at_a_time(table) if enclosing else 65_536):
            for cells in batch.to_pylist():
                number += 1
                try:
                    files = {name: _cell(cells[name], columns[name], number - 1) for name in enclosing}
                except DamagedItem as error:
                    yield Row(number, damage=str(error))
                else:
                    yield Row(number, {**cells, **files})


def _rows_at_a_time(table: Any) -> int:
    """How many rows of a table that holds files come to few bytes, by what its groups of rows say."""
    groups = (table.metadata.row_group(number) for number in range(table.metadata.num_row_groups))
    largest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
    return max(1, min(_FEW_ROWS, _FEW_BYTES // max(1, largest)))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"table '{path}': reading parquet needs pyarrow: pip install pyarrow") from error
    try:
        with open_file(path) as file:
            yield parquet.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
    except pyarrow.ArrowException as error:
        raise UserError(f"table '{path}': not a valid {path.suffix} file ({error})") from error


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
    return Enclosed.of(content, path or "", partial(column.read, row))


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
        self._batches: Iterator[list[Any]] = iter(())
        self._batch: list[Any] = []
        self._first = 0

    def read(self, row: int) -> bytes:
        """The file of a row, counted from 0. Raises DamagedItem where the table no longer has it."""
        if row < self._first or not self._batch:
            self._batches, self._batch, self._first = self._read(), [], 0
        try:
            while row >= self._first + len(self._batch):
                self._first += len(self._batch)
                self._batch = next(self._batches)
        except (StopIteration, UserError, OSError) as error:
            self._batch = []
            raise DamagedItem(f"row {row + 1} cannot be read again: the table has changed meanwhile") from error
        content, _ = _parts(self._batch[row - self._first])
        if content is None:
            raise DamagedItem(f"row {row + 1} cannot be read again: the table has changed meanwhile")
        return content

    def _read(self) -> Iterator[list[Any]]:
        with _opened(self._path) as table:
            for batch in table.iter_batches(_rows_at_a_time(table), columns=[self._name]):
                yield batch.column(0).to_pylist()
