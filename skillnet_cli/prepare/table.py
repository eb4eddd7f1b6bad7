"""``skillnet prepare table``: anyone's captioned files, functions, labelled texts or transcribed recordings.

A table is read twice over: its rows become items (rows that repeat a file add texts to its item), then each item's
file is read and the item kept.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np

from skillnet_cli.api import DamagedItem, Reader, Task, UserError
from skillnet_cli.data.format import MANIFEST, Manifest, is_name
from skillnet_cli.data.progress import Progress, Silent
from skillnet_cli.plugins import Registry, resolve, suggest
from skillnet_cli.prepare.asked import AGAIN, differences, fingerprint
from skillnet_cli.prepare.items import ADDRESS, Gathering, Item, Layout, layout_of
from skillnet_cli.prepare.writer import BEYOND_LIMIT, SetWriter
from skillnet_cli.sources.bounds import MAX_CONTENT
from skillnet_cli.sources.http import Unavailable
from skillnet_cli.sources.rows import Enclosed, Row
from skillnet_cli.sources.tables import read_rows
from skillnet_cli.untrusted import Untrusted, read_bytes

_IS_ADDRESS = "{}, and a table's files are read from disk: fetch them first, and name their paths"

FRACTIONS = {"train": 0.8, "dev": 0.1, "test": 0.1}
"""Shares of the splits where nobody says otherwise: the usual eight tenths to train on."""


@dataclass(frozen=True)
class TableJob:
    """One ``prepare table``.

    Rows that repeat a file (or, where there is none, the searched-for text) become one item with several texts; what
    cannot be used becomes a row of the ledger. Files are checked by the modality's reader and kept as they are.

    Attributes:
        table: a file or folder that :func:`read_rows` reads; its paths of files are relative to its folder.
        out: the new set's folder; its name is the set's.
        task: what the set shall feed.
        target_kind: what the target of its objective is made of: "class", "characters" or "units".
        columns: field -> column, for fields that the table calls something else; ``id`` may name a column of ids.
        split_column: a column that names each row's split.
        fractions: split -> share of the items, drawn at random, where no column names splits.
        licence: of what is in the set.
        seed: of the random splits.
        limit: at most so many items of each split.
        progress: shows how far the job is.
        say: prints a line for the user.
    """

    table: Path
    out: Path
    task: Task
    target_kind: str = "class"
    columns: Mapping[str, str] = field(default_factory=dict)
    split_column: str | None = None
    fractions: Mapping[str, float] = field(default_factory=FRACTIONS.copy)
    licence: str = "unknown"
    seed: int = 0
    limit: int | None = None
    progress: Progress = field(default_factory=Silent)
    say: Callable[[str], None] = lambda line: None

    @property
    def folder(self) -> Path:
        """What its paths of files are relative to: the table's folder, or the table that is one."""
        return self.table if self.table.is_dir() else self.table.parent

    @property
    def asked(self) -> dict[str, Any]:
        """What is asked for, as :attr:`Manifest.asked` has it, but for the files."""
        splits = {"split column": self.split_column} if self.split_column else {"shares": dict(self.fractions)}
        facts = {"task": self.task.name, "columns": dict(sorted(self.columns.items())), "licence": self.licence}
        return {**facts, **splits, "seed": self.seed, "limit": self.limit, "source": [self.table.name]}


def check_same_table(job: TableJob, registry: Registry) -> None:
    """Make sure that the set in ``job.out`` is the one that a job would make.

    Raises:
        UserError: it is another one, or the table or a file that it names has changed since.
    """
    manifest = Manifest.read(job.out)
    found = differences(manifest, job.asked, [job.table], job.out)
    if not found and manifest.asked:
        made = (job.out / MANIFEST).stat().st_mtime_ns
        for facts in _state_of_files(*_read(job, layout_of(job.task, job.columns, registry)), made):
            if facts not in manifest.asked.get("files", ()):
                found = [f"files that the table names in '{facts['name']}' have changed since"]
    if found:
        raise UserError(f"{job.out} holds a set made otherwise ({'; '.join(found[:3])}): {AGAIN}")


def _state_of_files(
    job: TableJob, layout: Layout, rows: Sequence[Row], made: int | None = None
) -> list[dict[str, Any]]:
    """The names and sizes of the files that a table names, a checksum for each field of files.

    Args:
        job: the table.
        layout: of its task.
        rows: of it.
        made: the time after which no file may have been changed, in nanoseconds; None where that does not matter.
    """
    found = []
    for skill in sorted(layout.media):
        digest = hashlib.sha256()
        cells = [row.cells.get(layout.columns[skill]) for row in rows]
        for name in dict.fromkeys(str(cell) for cell in cells if not isinstance(cell, Enclosed)):
            try:
                there = (job.folder / name).stat()
                newer = made is not None and max(there.st_mtime_ns, there.st_ctime_ns) > made
                state: Any = "newer" if newer else there.st_size
            except (OSError, ValueError):
                state = None
            digest.update(json.dumps([name, state]).encode())
        found.append({"name": skill, "sha256": digest.hexdigest()})
    return found


def prepare_table(job: TableJob, registry: Registry) -> Manifest:
    """Make a prepared set of a table.

    Args:
        job: the table, and what becomes of it.
        registry: where the task's skills are looked up.

    Raises:
        UserError: the table, a column, a split or a skill is missing, or the table holds nothing.
        FailedJob: no item of it can be used.
    """
    layout, asked = layout_of(job.task, job.columns, registry), job.asked
    _check_fractions(job.fractions)
    readers = {skill: _reader(skill, registry) for skill in layout.media}
    job, layout, rows = _read(job, layout)
    with _open_writer(job, layout, rows, asked) as writer:
        gathering = Gathering(layout, job.split_column, writer, job.folder.absolute())
        items = gathering.gather(job.progress.track(rows, len(rows), "rows read"))
        gathering.remark(job.say)
        named = [item.fields[name] for name in layout.media for item in items]
        elsewhere = sum(isinstance(each, str) and bool(ADDRESS.match(each)) for each in named)
        if elsewhere:
            job.say(f"{elsewhere:,} of {len(items):,} files {_IS_ADDRESS.format('are addresses')}")
        if not job.split_column:
            _split(items, job.fractions, job.seed)
        targets = _Targets(job.task.target, job.target_kind)
        _Keeping(job, layout, readers, writer, targets).keep_all(items)
        return writer.finish(targets.values())


def _read(job: TableJob, layout: Layout) -> tuple[TableJob, Layout, list[Row]]:
    """All rows of a table, and job and layout with their columns as the table calls them."""
    rows: list[Row] = []
    known = False
    for row in read_rows(job.table):
        if not (known or row.empty or row.damage):  # the first one shows whether the columns are there
            job, layout = _with_columns(job, layout, row.cells)
            known = True
        rows.append(row)
    return job, layout, rows


def _check_fractions(fractions: Mapping[str, float]) -> None:
    for name in fractions:
        if not is_name(name):
            raise UserError(f"--shares: '{name}' cannot be the name of a part: no dots, colons, slashes or line ends")
    # 1e-6: shares such as 0.7, 0.2, 0.1 do not sum to 1 exactly.
    if not all(0 < share <= 1 for share in fractions.values()) or not isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        stated = ", ".join(f"{name}={share}" for name, share in fractions.items()) or "none"
        raise UserError(f"the fractions of the splits must be positive and sum to 1, not {stated}")


def _reader(skill: str, registry: Registry) -> Reader:
    modality = registry.modality(skill)
    reader: Reader = resolve(modality.reader)(resolve(modality.config)(), None)
    return reader


def _with_columns(job: TableJob, layout: Layout, there: Mapping[str, Any]) -> tuple[TableJob, Layout]:
    """Both with their columns as the table calls them. Raises UserError where it lacks one that is needed."""
    columns = {name: _column(job, name, column, there) for name, column in layout.columns.items()}
    if job.split_column:
        job = replace(job, split_column=_column(job, "", job.split_column, there))
    return job, replace(layout, columns=columns)


def _column(job: TableJob, field: str, name: str, there: Mapping[str, Any]) -> str:
    """The table's column of a name, exactly or but for blanks around it. Raises UserError where it has none."""
    if name in there:
        return name
    alike = [column for column in there if column.strip() == name.strip()]
    if len(alike) == 1:
        return alike[0]
    wanted = f" for the field '{field}'" if field else ""
    known = ", ".join(column if column == column.strip() and "," not in column else f"'{column}'" for column in there)
    hint = suggest(name, there, f"it has {known or 'none'}")
    raise UserError(f"table '{job.table}' has no column '{name}'{wanted}{hint}")


def _open_writer(job: TableJob, layout: Layout, rows: Sequence[Row], asked: dict[str, Any]) -> SetWriter:
    splits = {"split_column": job.split_column} if job.split_column else {"fractions": dict(job.fractions)}
    counted = sum(not row.empty for row in rows)
    choices = {"task": job.task.name, "columns": dict(layout.columns), "rows": counted, "limit": job.limit, **splits}
    return SetWriter(
        job.out,
        name=job.out.resolve().name,
        licence=job.licence,
        seed=job.seed,
        source=(job.table.name,),
        choices=choices,
        asked={**asked, "files": [fingerprint(job.table), *_state_of_files(job, layout, rows)]},
    )


def _split(items: list[Item], fractions: Mapping[str, float], seed: int) -> None:
    """Give every item a split, in an order that ``seed`` shuffles; shares are rounded to whole items."""
    order = np.random.default_rng(seed).permutation(len(items))
    edges = (np.cumsum(list(fractions.values())) * len(items)).round().astype(int)
    for name, part in zip(fractions, np.split(order, edges[:-1]), strict=True):
        for place in part:
            items[place].split = name


@dataclass
class _Keeping:
    """The second half of the work: each item's files and target are read, and the item kept or rejected."""

    job: TableJob
    layout: Layout
    readers: Mapping[str, Reader]
    writer: SetWriter
    targets: _Targets
    kept: Counter[str] = field(default_factory=Counter)

    def keep_all(self, items: list[Item]) -> None:
        for item in self.job.progress.track(items, len(items), "items checked"):
            if self.job.limit is not None and self.kept[item.split] >= self.job.limit:
                self.writer.reject(item.split, item.id, "filtered", BEYOND_LIMIT.format(self.job.limit))
            else:
                self._keep_or_reject(item)

    def _keep_or_reject(self, item: Item) -> None:
        try:
            self._keep(item)
        except FileNotFoundError:
            self.writer.reject(item.split, item.id, "unavailable", "there is no such file")
        except Unavailable as error:
            self.writer.reject(item.split, item.id, "unavailable", str(error))
        except DamagedItem as error:
            self.writer.reject(item.split, item.id, "damaged", str(error))
        except Untrusted as error:
            self.writer.reject(item.split, item.id, "unavailable", f"it {error}")
        except OSError as error:
            self.writer.reject(item.split, item.id, "unavailable", str(error.strerror))

    def _keep(self, item: Item) -> None:
        fields = {name: value for name, value in item.fields.items() if name not in self.layout.media}
        media = {name: self._medium(name, item.fields[name]) for name in self.layout.media}
        target = self.layout.target
        if target:
            fields[target] = self.targets.parse(fields[target])
        if self.writer.keep(item.split, item.id, fields, media):
            self.kept[item.split] += 1
            if target:
                self.targets.add(fields[target])

    def _medium(self, skill: str, name: str | Enclosed) -> tuple[bytes, str]:
        """The file's own bytes, once the modality's reader has read them."""
        if isinstance(name, Enclosed):
            content, suffix = name.read(), name.suffix
        else:
            content, suffix = self._content(name), Path(name).suffix.lower()
        self.readers[skill].read(content)
        return content, suffix if suffix[1:].isalnum() and suffix.isascii() else ".bin"

    def _content(self, name: str) -> bytes:
        if "\0" in name:
            raise DamagedItem("its path is none")
        if ADDRESS.match(name):
            raise Unavailable(f"it {_IS_ADDRESS.format('is an address')}")
        return read_bytes(self.job.folder / name, MAX_CONTENT)


class _Targets:
    """Reads target values from a table's cells and lists what they can be.

    A transcript is spelt in characters, units are numbers from 0 up, anything else is a class of its own.
    """

    def __init__(self, field: str | None, kind: str) -> None:
        self._field = field
        self._kind = kind
        self._seen: set[Any] = set()

    def parse(self, value: Any) -> Any:
        """A cell's value as the sample's field has it. Raises DamagedItem where it cannot be one."""
        if self._kind != "units":
            if isinstance(value, (list, dict)) or value != value:  # not a number is not equal to itself
                raise DamagedItem(f"the {self._field} must be a text or a number, not {value!r}"[:200])
            return str(value).strip()
        parts = value if isinstance(value, list) else str(value).split()
        try:
            units = [int(part) for part in parts]
        except (TypeError, ValueError) as error:
            raise DamagedItem(f"units must be whole numbers, not {value!r}") from error
        if min(units) < 0:
            raise DamagedItem(f"units must be numbers from 0 up, not {min(units)}")
        return units

    def add(self, value: Any) -> None:
        """Add a parsed value: a class as a whole, a transcript by its characters, units one by one."""
        self._seen.update([value] if self._kind == "class" else value)

    def values(self) -> dict[str, list[str]]:
        """The target's field and, in order, what it can be; nothing for a task without a target."""
        if self._field is None:
            return {}
        if self._kind == "units":
            return {self._field: [str(unit) for unit in range(max(self._seen, default=-1) + 1)]}
        return {self._field: sorted(self._seen)}
