"""The rows of a collection on disk (LanceDB): one writer at a time, and every file checked before its rows are used.

LanceDB never changes a file that it has written, but it has no checksums: a flipped bit would be another vector. Beside
its folder lies a file with the checksum of each of them, written after every change; what came in later than that,
where a writer was killed in between, is taken as it is and listed by the next one.
"""

from __future__ import annotations

import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxtyping import Float
from pydantic import BaseModel
from torch import Tensor

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.files import CHUNK, PARTIAL, disk_errors, file_lock, write_json
from skillnet_cli.untrusted import Untrusted, open_regular, read_json, validate

NAME = "items"
CHECKSUMS = "checksums.json"
LOCK = ".lock"
REMAINS = {f"{NAME}.lance", CHECKSUMS, CHECKSUMS + PARTIAL, LOCK}
"""What lies in the folder, also where a table was begun and never written."""

_CHANGING = {"latest_version_hint.json"}
"""Files that LanceDB writes again: of these the version that they name is checked."""

_ONCE = 1_000
"""Keys in one condition: LanceDB parses it recursively."""


class _Checksums(BaseModel):
    """The file of checksums: the table's version, and the crc32 of each file that it had then."""

    version: int
    crc32: dict[str, int]


class Table:
    """Rows with a vector, one a key. Every method says in one line what LanceDB could not do."""

    def __init__(self, folder: Path, key: str, table: Any) -> None:
        self._folder, self._key, self._table = folder, key, table

    @classmethod
    def create(cls, folder: Path, key: str, schema: Any) -> Table:
        """Open the table in a folder, or make it where it never held a row.

        Args:
            folder: it exists.
            key: the column of which no value comes twice.
            schema: pyarrow's, of a new table and of one that is there.

        Raises:
            UserError: LanceDB is not installed, or the table is damaged.
            FailedJob: the folder cannot be written.
        """
        database = import_lancedb()
        if not _is_written(folder):
            with writing(folder):
                if not _is_written(folder):
                    clear(folder)
                    database.connect(folder).create_table(NAME, schema=schema)
        return cls.open(folder, key, schema)

    @classmethod
    def open(cls, folder: Path, key: str, schema: Any) -> Table:
        """Open the table in a folder, whose files are read and compared with their checksums.

        Raises:
            UserError: LanceDB is not installed, or the table is damaged.
        """
        database = import_lancedb()
        checksums = _read_checksums(folder)
        _check_files(folder, checksums)
        with _reading(folder):
            table = database.connect(folder).open_table(NAME)
            if not table.schema.equals(schema):
                raise _damaged(folder, f"{NAME}.lance has other columns")
            if checksums is not None and table.version < checksums.version:
                raise _damaged(folder, "its last changes are missing")
        return cls(folder, key, table)

    def rows(self, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Some columns of all rows."""
        with _reading(self._folder):
            # A search for nothing in particular is a scan. Its limit is 10 rows by default, and must not be 0.
            return list(self._table.search().select(list(columns)).limit(max(1, self.count())).to_list())

    def count(self, condition: str | None = None) -> int:
        """How many rows there are, or how many of them a condition of SQL holds for."""
        with _reading(self._folder):
            return int(self._table.count_rows(condition))

    def nearest(self, vector: Float[Tensor, " hidden"], top: int, condition: str | None = None) -> list[dict[str, Any]]:
        """The rows whose vectors have the largest product with a vector, best first, with ``_distance``: 1 less it.

        Args:
            vector: of the width of the rows' vectors.
            top: how many.
            condition: only rows for which this SQL holds.
        """
        with _reading(self._folder):
            query = self._table.search(vector.numpy(), vector_column_name="vector").distance_type("dot")
            if condition:
                # Before the search: afterwards it would leave fewer than the best of these rows.
                query = query.where(condition, prefilter=True)
            # LanceDB makes room for as many as are asked for.
            return list(query.limit(max(1, min(top, self.count()))).to_list())

    def put(self, rows: Any, check: Callable[[], None]) -> None:
        """Add the rows of a pyarrow table; those whose key is known are replaced.

        Args:
            rows: no key twice.
            check: called when no other process writes, before anything is written; raises where it must not be.
        """
        with writing(self._folder):
            check()
            self._table.checkout_latest()  # without it a key that another process has added would come twice
            merging = self._table.merge_insert(self._key)
            merging.when_matched_update_all().when_not_matched_insert_all().execute(rows)
            self._note_checksums()

    def remove(self, keys: Sequence[str]) -> None:
        """Take out the rows with these keys."""
        for start in range(0, len(keys), _ONCE):
            with writing(self._folder):
                self._table.checkout_latest()
                listed = ", ".join(map(quoted, keys[start : start + _ONCE]))
                self._table.delete(f"{self._key} IN ({listed})")
                self._note_checksums()

    def _note_checksums(self) -> None:
        known = _read_checksums(self._folder)
        crc32 = known.crc32 if known else {}
        fresh = {name: _crc32_of(path) for name, path in _files(self._folder) if name not in crc32}
        write_json(self._folder / CHECKSUMS, {"version": self._table.version, "crc32": crc32 | fresh})


def clear(folder: Path) -> None:
    """Delete a table. Its one writer calls this."""
    for path in (folder / name for name in REMAINS - {LOCK}):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def quoted(text: str) -> str:
    """A string of SQL, in which a quote is written twice."""
    return "'" + text.replace("'", "''") + "'"


def was_filled(folder: Path) -> bool:
    """Whether rows were ever put into a table: its first version has none."""
    return len(_versions(folder)) > 1


def _is_written(folder: Path) -> bool:
    """Whether a table was made: it has a version then, be it without rows."""
    return bool(_versions(folder))


def _versions(folder: Path) -> list[Path]:
    return list((folder / f"{NAME}.lance" / "_versions").glob("*.manifest"))


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of the table that never change, each with its path in the folder."""
    for path in sorted((folder / f"{NAME}.lance").rglob("*")):
        if path.is_file() and path.name not in _CHANGING:
            yield path.relative_to(folder).as_posix(), path


def _read_checksums(folder: Path) -> _Checksums | None:
    """None where there are none: in tables of earlier versions, and before the first row."""
    try:
        return validate(_Checksums, read_json(folder / CHECKSUMS))
    except FileNotFoundError:
        return None
    except (Untrusted, OSError) as error:
        raise _damaged(folder, f"{CHECKSUMS} {_line(error)}") from error


def _check_files(folder: Path, checksums: _Checksums | None) -> None:
    """Raises UserError where one of the listed files is missing, or is not as it was written."""
    present = dict(_files(folder))
    for name, wanted in (checksums.crc32 if checksums else {}).items():
        if name not in present:
            raise _damaged(folder, f"{name} is missing")
        try:
            same = _crc32_of(present[name]) == wanted
        except (OSError, Untrusted) as error:
            raise _damaged(folder, f"{name}: {_line(error)}") from error
        if not same:
            raise _damaged(folder, f"{name} is not as it was written")


def _crc32_of(path: Path) -> int:
    checksum = 0
    with open_regular(path) as file:
        while chunk := file.read(CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the only writer of a collection, in all processes: wait until no other is at it.

    Raises:
        FailedJob: the folder cannot be written.
    """
    with disk_errors(folder), file_lock(folder / LOCK), _one_line(lambda reason: _unwritten(folder, reason)):
        yield


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Raises UserError where LanceDB cannot read what is there."""
    with _one_line(lambda reason: _damaged(folder, reason)):
        yield


@contextmanager
def _one_line(error_of: Callable[[str], Exception]) -> Iterator[None]:
    """Turns LanceDB's errors, and the panics of its core, which are no Exceptions, into one line."""
    try:
        yield
    except (UserError, FailedJob, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        raise error_of(_line(error)) from error


def _line(error: BaseException) -> str:
    """What an error says, in one line: of LanceDB's what the system said, or at least no places in its source."""
    said = str(error) or type(error).__name__
    system = re.search(r"([A-Z][\w ]+) \(os error \d+\)", said)
    if system:
        return system[1]
    return re.sub(r",? ?/\S+\.rs:\d+(:\d+)?", "", " ".join(said.split()))[:200]


def _damaged(folder: Path, reason: str) -> UserError:
    return UserError(f"collection {folder} is damaged ({reason}): delete it and embed again")


def _unwritten(folder: Path, reason: str) -> FailedJob:
    return FailedJob(f"collection {folder} cannot be written: {reason}")


def import_lancedb() -> Any:
    """LanceDB, which is an extra. Raises UserError where it is not installed."""
    try:
        import lancedb
    except ImportError as error:
        raise UserError("collections need LanceDB: pip install 'skillnet-cli[search]'") from error
    return lancedb
