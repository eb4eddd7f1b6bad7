"""``skillnet prepare table``: anyone's captioned files, functions, labelled texts or transcribed recordings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skillnet_cli.api import DamagedItem, Reader, Task, UserError
from skillnet_cli.data.gathering import Gathering, Item
from skillnet_cli.data.layout import Layout, check_columns, layout_of
from skillnet_cli.data.manifest import Manifest
from skillnet_cli.data.progress import Progress, Silent
from skillnet_cli.data.rows import Row, read_rows
from skillnet_cli.data.target_space import TargetSpace
from skillnet_cli.data.writer import SetWriter
from skillnet_cli.plugins import Registry, resolve

FRACTIONS = {"train": 0.8, "dev": 0.1, "test": 0.1}


@dataclass(frozen=True)
class TableJob:
    """One ``prepare table``.

    Rows that repeat a file (or, where there is none, the searched-for text) become one item with several texts; what
    cannot be used becomes a row of the ledger. Files are checked by the modality's reader and kept as they are.

    Attributes:
        table: a .csv, .tsv, .jsonl or .parquet; its paths of files are relative to its folder.
        out: the new set's folder; its name is the set's.
        task: what the set shall feed.
        columns: field -> column, for fields that the table calls something else; ``id`` may name a column of ids.
        split_column: a column that names each row's split.
        fractions: split -> share of the items, dealt out by ``seed``, where no column does.
        limit: at most so many items of each split.
    """

    table: Path
    out: Path
    task: Task
    columns: Mapping[str, str] = field(default_factory=dict)
    split_column: str | None = None
    fractions: Mapping[str, float] = field(default_factory=FRACTIONS.copy)
    licence: str = "unknown"
    seed: int = 0
    limit: int | None = None
    progress: Progress = field(default_factory=Silent)


def prepare_table(job: TableJob, registry: Registry) -> Manifest:
    """Make a prepared set of a table.

    Raises:
        UserError: the table, a column, a split or a skill is not there, or the table holds nothing.
        FailedJob: no item of it can be used.
    """
    layout = layout_of(job.task, job.columns, registry)
    _check_fractions(job.fractions)
    readers = {skill: _reader(skill, registry) for skill in layout.media}
    rows = list(_checked(read_rows(job.table), layout, job))
    with _writer(job, layout, len(rows)) as writer:
        items = Gathering(layout, job.split_column, writer).gather(job.progress.track(rows, len(rows), "rows read"))
        if not job.split_column:
            deal(items, job.fractions, job.seed)
        space = TargetSpace(job.task)
        _Keeping(job, layout, readers, writer, space).keep_all(items)
        return writer.finish(space.targets())


@dataclass
class _Keeping:
    """The second half of the work: each item's files and target are read, and the item kept or rejected."""

    job: TableJob
    layout: Layout
    readers: Mapping[str, Reader]
    writer: SetWriter
    space: TargetSpace
    kept: dict[str, int] = field(default_factory=dict)

    def keep_all(self, items: list[Item]) -> None:
        for item in self.job.progress.track(items, len(items), "items checked"):
            if self.job.limit is not None and self.kept.get(item.split, 0) >= self.job.limit:
                self.writer.reject(item.split, item.id, "filtered", f"beyond the limit of {self.job.limit}")
            else:
                self._keep_or_reject(item)

    def _keep_or_reject(self, item: Item) -> None:
        try:
            self._keep(item)
        except FileNotFoundError:
            self.writer.reject(item.split, item.id, "unavailable", "there is no such file")
        except DamagedItem as error:
            self.writer.reject(item.split, item.id, "damaged", str(error))
        except OSError as error:
            self.writer.reject(item.split, item.id, "unavailable", str(error.strerror))

    def _keep(self, item: Item) -> None:
        fields = {name: value for name, value in item.fields.items() if name not in self.layout.media}
        media = {name: self._medium(name, item.fields[name]) for name in self.layout.media}
        target = self.layout.target
        if target:
            fields[target] = self.space.parse(fields[target])
        if self.writer.keep(item.split, item.id, fields, media):
            self.kept[item.split] = self.kept.get(item.split, 0) + 1
            if target:
                self.space.add(fields[target])

    def _medium(self, skill: str, name: str) -> tuple[bytes, str]:
        """The file's own bytes, once the modality's reader has read them."""
        if "\0" in name:
            raise DamagedItem("its path is none")
        path = self.job.table.parent / name
        content = path.read_bytes()
        self.readers[skill].read(content)
        suffix = path.suffix.lower()
        return content, suffix if suffix[1:].isalnum() and suffix.isascii() else ".bin"


def deal(items: list[Item], fractions: Mapping[str, float], seed: int) -> None:
    """Give every item a split, in an order that ``seed`` shuffles; shares are rounded to whole items."""
    order = np.random.default_rng(seed).permutation(len(items))
    edges = (np.cumsum(list(fractions.values())) * len(items)).round().astype(int)
    for name, part in zip(fractions, np.split(order, edges[:-1]), strict=True):
        for place in part:
            items[place].split = name


def _writer(job: TableJob, layout: Layout, rows: int) -> SetWriter:
    splits = {"split_column": job.split_column} if job.split_column else {"fractions": dict(job.fractions)}
    choices = {"task": job.task.name, "columns": dict(layout.columns), "rows": rows, "limit": job.limit, **splits}
    name, source = job.out.resolve().name, (job.table.name,)
    return SetWriter(job.out, name=name, licence=job.licence, seed=job.seed, source=source, choices=choices)


def _checked(rows: Iterable[Row], layout: Layout, job: TableJob) -> Iterator[Row]:
    """The rows, once the first one that can be read has shown that the columns are there."""
    seen = False
    for row in rows:
        if not seen and row.damage is None:
            check_columns(layout, row.cells, f"table '{job.table}'")
            _check_split_column(job, row.cells)
            seen = True
        yield row


def _check_fractions(fractions: Mapping[str, float]) -> None:
    if not fractions or min(fractions.values()) <= 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        stated = ", ".join(f"{name}={share}" for name, share in fractions.items()) or "none"
        raise UserError(f"the fractions of the splits must be positive and sum to 1, not {stated}")


def _check_split_column(job: TableJob, there: Mapping[str, Any]) -> None:
    if job.split_column and job.split_column not in there:
        raise UserError(f"table '{job.table}' has no column '{job.split_column}': it has {', '.join(there)}")


def _reader(skill: str, registry: Registry) -> Reader:
    modality = registry.modality(skill)
    reader: Reader = resolve(modality.reader)(resolve(modality.config)(), None)
    return reader
