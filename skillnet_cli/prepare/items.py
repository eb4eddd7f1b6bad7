"""How rows of anyone's table become items of a set: which column has which field, and which rows belong together."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, Task, UserError
from skillnet_cli.data.format import is_name, usual_split
from skillnet_cli.plugins import Registry, suggest
from skillnet_cli.prepare.writer import SetWriter
from skillnet_cli.sources.rows import EMPTY, Enclosed, Row

ID = "id"
"""The optional field whose column names the items."""

ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]+://", re.IGNORECASE)
"""What begins the name of a file that lies elsewhere: ``https://``, ``s3://``. One letter would be a drive."""

MOST_SPLITS = 100
"""Different values of a column that names splits; more are no splits."""


@dataclass(frozen=True)
class Layout:
    """How a task's samples lie in a table.

    A modality that builds vocabularies reads texts themselves, any other reads files, whose paths the table has. Rows
    with the same value of ``item`` are one sample. That is the field of files if there is one, else the last of the
    task's skills; the other skills' texts are gathered in lists, and so are those of a task of a single skill.
    The texts of a pair belong together and are never gathered: rows are one sample where those are the same too.

    ``columns`` has the column of every field, the optional ``id`` included; ``inputs`` are the fields that the skills
    read; ``media`` the fields of files; ``lists`` those gathered in lists; ``paired`` those of pairs.
    """

    columns: Mapping[str, str]
    inputs: tuple[str, ...]
    item: str
    media: frozenset[str]
    lists: tuple[str, ...]
    paired: tuple[str, ...]
    target: str | None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that every row must have."""
        return tuple(field for field in self.columns if field != ID)


def layout_of(task: Task, columns: Mapping[str, str], registry: Registry) -> Layout:
    """The layout of a task's table; a field that ``columns`` leaves out is looked for under its own name.

    Raises:
        UserError: ``columns`` names a field that the task does not have, or the task reads several kinds of files.
    """
    wanted = [*task.inputs, *([task.target] if task.target else [])]
    for name in columns:
        if name not in (*wanted, ID):
            hint = suggest(name, wanted, f"it has {', '.join(wanted)}")
            raise UserError(f"task '{task.name}' has no field '{name}'{hint}")
    media = frozenset(skill for skill in task.skills if not registry.modality(skill).vocabularies)
    if len(media) > 1:
        raise UserError(f"task '{task.name}' reads files for {' and '.join(sorted(media))}: a table can name one kind")
    if not media.isdisjoint(task.pairs):
        raise UserError(f"task '{task.name}' reads pairs of files: a row of a table can name one")
    item = next(iter(media), task.skills[-1])
    paired = tuple(field for skill in task.pairs for field in task.fields_of(skill))
    single = (*media, *paired, *([item] if len(task.skills) > 1 else []))
    lists = tuple(skill for skill in task.skills if skill not in single)
    named = {field: columns.get(field, field) for field in wanted}
    return Layout({**named, **columns}, tuple(task.inputs), item, media, lists, paired, task.target)


@dataclass
class Item:
    """A sample in the making.

    Attributes:
        id: what it is called.
        row: the number of the row that it began with.
        fields: their values.
        split: the one that its row names.
        same: what the rows that belong to it have in common.
    """

    id: str
    row: int
    fields: dict[str, Any]
    split: str = ""
    same: str = ""


@dataclass(frozen=True)
class Gathering:
    """How rows become items; rows that make none become rows of the writer's ledger."""

    layout: Layout
    split_column: str | None
    writer: SetWriter
    folder: Path
    named: dict[str, str] = field(default_factory=dict)
    """What the column says -> the split that it stands for."""

    def remark(self, say: Callable[[str], None]) -> None:
        """Say which splits are called otherwise in the table, and which are not usual ones."""
        renamed = [f"'{old}' is {new}" for old, new in self.named.items() if new and old.strip() != new]
        own = sorted({new for new in self.named.values() if new and usual_split(new) is None})
        if renamed:
            say(f"column '{self.split_column}': {_some(renamed)}")
        if own:
            say(f"column '{self.split_column}': {_some(own)}: kept as parts of these names")

    def gather(self, rows: Iterable[Row]) -> list[Item]:
        """The items of a table, in the order of their first rows."""
        items: dict[str, Item] = {}
        for row in rows:
            if row.empty:
                self.writer.reject("", f"behind row {row.number}", "filtered", EMPTY)
                continue
            try:
                item = self._item(row)
            except DamagedItem as error:
                self.writer.reject(self._split(row), f"row {row.number}", "damaged", str(error))
                continue
            first = items.setdefault(item.same, item)
            repeated = None if first is item else self._merge(first, item)
            if repeated:
                self.writer.reject(item.split, f"row {row.number}", "duplicate", repeated)
        for item in items.values():
            item.fields.update({name: list(item.fields[name]) for name in self.layout.lists})
        return list(items.values())

    def _item(self, row: Row) -> Item:
        """A row as an item. Raises DamagedItem where the row is damaged or lacks a value."""
        if row.damage:
            raise DamagedItem(row.damage)
        if self.split_column and not self._split(row):
            given = str(row.cells.get(self.split_column) or "").strip()
            why = f"'{given}' cannot be the name of a part" if given else "it is empty"
            raise DamagedItem(f"the column '{self.split_column}': {why}"[:300])
        fields = {name: _value(row, self.layout.columns[name]) for name in self.layout.fields}
        for name in self.layout.inputs:
            value = fields[name]
            # What is gathered has the order of a list and is found like a set's members: a file may have many texts.
            if name not in self.layout.media or not isinstance(value, Enclosed):
                fields[name] = dict.fromkeys(_texts(value)) if name in self.layout.lists else _text(value)
        same = fields[self.layout.item]
        if self.layout.media:
            fields[self.layout.item], same = self._file(fields[self.layout.item])
        parts = [same] if isinstance(same, str) else list(same)
        same = "\0".join([*parts, *(fields[name] for name in self.layout.paired)])
        return Item(self._id(row, fields), row.number, fields, self._split(row), same)

    def _file(self, name: str | Enclosed) -> tuple[str | Enclosed, str]:
        """How a file is called below the table's folder, and the place that all spellings of its path lead to.

        What lies in the table itself stays as it is; equal contents are one file.
        """
        if isinstance(name, Enclosed):
            return name, f"sha256:{name.sha256}"
        for form in ("NFC", "NFD"):
            other = unicodedata.normalize(form, name)
            if other != name and not os.path.lexists(self.folder / name) and os.path.lexists(self.folder / other):
                name = other  # the same characters, as the system that wrote the table spells them
        if "\0" in name or ADDRESS.match(name):
            return name, name
        place = os.path.normpath(self.folder / name)
        inside = f"{os.path.normpath(self.folder)}{os.sep}"
        return place.removeprefix(inside).replace(os.sep, "/"), unicodedata.normalize("NFC", os.path.realpath(place))

    def _id(self, row: Row, fields: Mapping[str, Any]) -> str:
        """What the column of ids says, else the path of the item's file, else the number of its row."""
        if ID in self.layout.columns:
            return str(_value(row, self.layout.columns[ID]))
        one = self.layout.media and not self.layout.paired  # a file with several pairs is several items
        found = fields[self.layout.item]
        name = found.name if isinstance(found, Enclosed) else str(found)
        return name if one and name else f"row {row.number}"

    def _split(self, row: Row) -> str:
        """The split that a row names, "" where it names none, or one that no split can be called."""
        if not self.split_column:
            return ""
        given = str(row.cells.get(self.split_column) or "")
        if given not in self.named:
            name = usual_split(given) or given.strip()
            if not is_name(name):
                return ""
            if len(self.named) == MOST_SPLITS:
                raise UserError(
                    f"column '{self.split_column}' names more than {MOST_SPLITS} parts: name another column"
                )
            self.named[given] = name
        return self.named[given]

    def _merge(self, item: Item, other: Item) -> str | None:
        """Add a row's texts to the item that it repeats, or say why the row is left out."""
        what = " and ".join(dict.fromkeys([self.layout.item, *self.layout.paired]))
        same, target = f"the same {what} as in row {item.row}", self.layout.target
        if item.split != other.split:
            return f"{same}, which is in split '{item.split}'"
        if target and item.fields[target] != other.fields[target]:
            return f"{same} with another {target}"
        added = 0
        for name in self.layout.lists:
            new = [text for text in other.fields[name] if text not in item.fields[name]]
            item.fields[name].update(dict.fromkeys(new))
            added += len(new)
        return None if added else same


def _some(found: Sequence[str]) -> str:
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def _value(row: Row, column: str) -> Any:
    value = row.cells.get(column)
    if value is None or value != value or (isinstance(value, str) and not value.strip()):  # NaN is unequal to itself
        raise DamagedItem(f"the column '{column}' is empty")
    return value.strip("\r\n") if isinstance(value, str) else value


def _text(value: Any) -> str:
    """A cell that must hold a text or a number. Raises DamagedItem where it holds neither."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value != value:
        raise DamagedItem(f"it must be a text, not {value!r}"[:200])
    return str(value)


def _texts(value: Any) -> list[str]:
    """The texts of a cell, which holds one or a list of them. Raises DamagedItem where there is none."""
    texts = [_text(each).strip() for each in (value if isinstance(value, list) else [value])]
    if not any(texts):
        raise DamagedItem("it has no text")
    return [text for text in texts if text]
