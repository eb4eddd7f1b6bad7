"""Data sets that are tables of addresses: CSV files whose rows say what a file shows and where on the web it lies.

The files are fetched, or taken from a folder or an archive where earlier runs put them. A range is some consecutive
rows and becomes one shard, so that such a set may be of any size.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.data.format import Rejection
from skillnet_cli.files import write_whole
from skillnet_cli.prepare.preparer import Kept, Preparation, Preparer, Range, Rejected
from skillnet_cli.sources.archives import CachedFiles
from skillnet_cli.sources.http import RateLimits, Unavailable
from skillnet_cli.sources.rows import Row
from skillnet_cli.sources.tables import CsvFile

PLAN = "row-ranges.json"
SHARD_ROWS = 10_000

Media: TypeAlias = tuple[bytes, str]
"""An encoded file and its suffix."""
Outcome: TypeAlias = Media | Exception | None
"""A row's file, why there is none, or None where none was looked for."""


class Linked(Preparer):
    """Subclass it and say what a row means.

    Attributes:
        columns: those that the files must have.
        link: the column of addresses.
        own_files: the option that names where files were fetched to before.
        suffixes: what such files may be called.
        most_bytes: of a file.
    """

    independent = True
    columns: tuple[str, ...]
    link: str
    own_files: str
    suffixes: tuple[str, ...]
    most_bytes: int

    @abstractmethod
    def split_of(self, file: str) -> str:
        """The split that a file's rows belong to."""

    @abstractmethod
    def rejection(self, row: Row) -> tuple[Rejection, str] | None:
        """Why a sound row is left out before its file is looked for: class and reason."""

    @abstractmethod
    def places(self, file: str, row: Row) -> Sequence[str]:
        """Where a row's file may lie if it was fetched before, with or without its suffix, the first choice first."""

    @abstractmethod
    def converted(self, content: bytes) -> Media:
        """What is kept of a file. Raises DamagedItem."""

    @abstractmethod
    def item(self, split: str, id: str, row: Row, media: Media) -> Kept:
        """A row whose file has come."""

    def id(self, file: str, row: Row) -> str:
        """What a row is called: its file and its number."""
        return f"{PurePosixPath(file).stem}-{row.number:07d}"

    def needed(self, columns: Sequence[str]) -> Sequence[str]:
        """The columns that a table must have, of which ``columns`` are there."""
        return self.columns

    def whole_range(self, rows: Iterable[Row]) -> Iterable[Row]:
        """The rows of a range, before anything is fetched: where several are to be looked at together."""
        return rows

    def setup(self) -> None:
        """Look at the options and find where each range of rows begins."""
        _rate_limits_of(self.job, self.most_bytes)
        rows = self.job.options.get("shard-rows", SHARD_ROWS)
        if rows < 1:
            raise UserError(f"--shard-rows: {rows} is less than 1")
        if self._cached is None:
            _import_fetch_in_order()
        self.files.one("*.csv")
        files = sorted(self.files.named("*.csv"), key=lambda member: _in_number_order(member.name))
        found: list[list[Any]] = []
        for member in self.job.progress.track(files, len(files), f"{self.job.dataset.name}: tables looked through"):
            table = CsvFile(member)
            table.check_columns(self.needed(table.columns))
            found += [[member.name, each] for each in table.ranges(rows)]
        write_whole(self.folder / PLAN, json.dumps(found).encode())

    def ranges(self) -> Sequence[Range]:
        """The ranges of rows, in order of the files' numbers."""
        found = json.loads((self.folder / PLAN).read_bytes())
        return [Range(f"{name} from row {each[1]}", [name, each], (self.split_of(name),)) for name, each in found]

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        """An item for every row."""
        name, rows_of_range = range.payload
        rows = self.whole_range(CsvFile(self.files[name]).read(*rows_of_range))
        for row, outcome in self._fetched(rows) if self._cached is None else self._found(name, rows):
            yield self._item(self.split_of(name), self.id(name, row), row, outcome)

    def _fetched(self, rows: Iterable[Row]) -> Iterator[tuple[Row, Outcome]]:
        asked = ((row, None if self._rejection(row) else row.cells[self.link].strip()) for row in rows)
        return _import_fetch_in_order()(asked, _rate_limits_of(self.job, self.most_bytes), self.converted)

    def _found(self, name: str, rows: Iterable[Row]) -> Iterator[tuple[Row, Outcome]]:
        for row in rows:
            yield row, None if self._rejection(row) else self._from_cache(self.places(name, row))

    def _from_cache(self, places: Sequence[str]) -> Outcome:
        assert self._cached is not None
        try:
            found = (self._cached.find(place, self.suffixes) for place in places)
            content = next((each for each in found if each is not None), None)
            return Unavailable("there is no file of it") if content is None else self.converted(content)
        except DamagedItem as error:
            return error

    def _rejection(self, row: Row) -> tuple[Rejection, str] | None:
        if row.damage:
            return "damaged", row.damage
        if self.link in row.cells and not row.cells[self.link].strip():
            return "damaged", "it has no address"
        return self.rejection(row)

    def _item(self, split: str, id: str, row: Row, outcome: Outcome) -> Kept | Rejected:
        if isinstance(outcome, tuple):
            return self.item(split, id, row, outcome)
        if isinstance(outcome, Unavailable):
            return Rejected(split, id, "unavailable", str(outcome))
        if isinstance(outcome, DamagedItem):
            return Rejected(split, id, "damaged", str(outcome))
        if outcome is not None:
            raise outcome
        why, reason = self._rejection(row) or ("damaged", "")
        return Rejected(split, id, why, reason)

    @cached_property
    def _cached(self) -> CachedFiles | None:
        place = self.job.options.get(self.own_files)
        return CachedFiles(place, self.folder / "own") if place else None


def _import_fetch_in_order() -> Any:
    """What fetches many files. Raises UserError where aiohttp is not installed."""
    try:
        from skillnet_cli.sources.web import fetch_in_order
    except ModuleNotFoundError as error:
        raise UserError("fetching many files needs aiohttp: pip install 'skillnet-cli[download]'") from error
    return fetch_in_order


def _in_number_order(name: str) -> list[tuple[int, str]]:
    """What names are sorted by so that 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _rate_limits_of(job: Preparation, most_bytes: int) -> RateLimits:
    """How servers are asked, as the job's options say. Raises UserError where one makes no sense."""

    options = {"connections": 64, "per-host": 8, "timeout": 30.0, "retries": 2, "private-host": (), **job.options}
    for name, least in (("connections", 1), ("per-host", 1), ("timeout", 0.1), ("retries", 0)):
        if options[name] < least:
            raise UserError(f"--{name}: {options[name]} is less than {least}")
    return RateLimits(
        connections=options["connections"],
        per_host=options["per-host"],
        seconds=options["timeout"],
        idle=min(10.0, options["timeout"]),
        retries=options["retries"],
        most_bytes=most_bytes,
        private_hosts=frozenset(options["private-host"]),
    )
