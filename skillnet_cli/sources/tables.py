"""Reads the rows of anyone's table: CSV, TSV, JSON lines or parquet; and published lists in JSON, in pieces."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.files import write_whole
from skillnet_cli.sources.texts import decode
from skillnet_cli.sources.trees import Leaf

LONGEST_CELL = 1 << 28


@dataclass(frozen=True)
class Row:
    """One row, counted from 1 below the header: its cells by column, or in ``damage`` why they cannot be read."""

    number: int
    cells: Mapping[str, Any] = field(default_factory=dict)
    damage: str | None = None


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a table, read by the suffix of its name.

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
        raise UserError(f"table '{path}': not a table of this kind ({error})") from error


def _delimited(delimiter: str) -> Callable[[Path], Iterator[Row]]:
    def read(path: Path) -> Iterator[Row]:
        csv.field_size_limit(LONGEST_CELL)
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=delimiter)
            header = next(lines, [])
            if len(set(header)) != len(header):
                raise UserError(f"table '{path}': two columns have the same name: {', '.join(header)}")
            for number, cells in enumerate((cells for cells in lines if cells), 1):
                if len(cells) == len(header):
                    yield Row(number, dict(zip(header, cells, strict=True)))
                else:
                    yield Row(number, damage=f"row {number} has {len(cells)} cells, the header has {len(header)}")

    return read


def _json_lines(path: Path) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate((line for line in file if line.strip()), 1):
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError):
                cells = None
            if isinstance(cells, dict):
                yield Row(number, cells)
            else:
                yield Row(number, damage=f"row {number} is not an object in JSON")


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
        raise UserError(f"table '{path}': not a table of this kind ({error})") from error


_KINDS = {
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}


PIECE = 1000
"""Entries a piece."""


def read_list(leaf: Leaf) -> list[Any]:
    """The list that a file in JSON holds. Raises UserError where it is damaged or holds something else."""
    try:
        found = json.loads(decode(leaf.read()))
    except DamagedItem as error:
        raise UserError(f"{leaf.name}: {error}: fetch it again") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{leaf.name}: damaged, it is not JSON ({error}): fetch it again") from error
    if not isinstance(found, list):
        raise UserError(f"{leaf.name}: a list is expected: check --source")
    return found


def write_pieces(folder: Path, name: str, entries: Sequence[Any], size: int = PIECE) -> None:
    """Write a list in pieces of ``size``, ``NAME-000000.json`` and so on."""
    for number, start in enumerate(range(0, len(entries), size)):
        piece = json.dumps(entries[start : start + size], ensure_ascii=False)
        write_whole(folder / f"{name}-{number:06d}.json", piece.encode("utf-8", errors="surrogatepass"))


def pieces(folder: Path, name: str) -> list[str]:
    """The names of a list's pieces, in order."""
    return sorted(path.stem for path in folder.glob(f"{name}-*.json"))


def read_piece(folder: Path, piece: str) -> list[Any]:
    """The entries of a piece. Raises FailedJob where it is damaged."""
    path = folder / f"{piece}.json"
    try:
        entries: list[Any] = json.loads(path.read_bytes().decode("utf-8", errors="surrogatepass"))
    except (OSError, ValueError) as error:
        raise FailedJob(f"{path}: damaged: delete {folder.parent} and begin anew") from error
    return entries
