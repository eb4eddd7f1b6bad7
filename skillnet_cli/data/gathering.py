"""From the rows of a table to items: rows that repeat a file, or the searched-for text, are one item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from skillnet_cli.api import DamagedItem
from skillnet_cli.data.layout import ID, Layout
from skillnet_cli.data.rows import Row
from skillnet_cli.data.writer import SetWriter


@dataclass
class Item:
    """A sample in the making: the row it began with, the values of its fields, the split that its row names."""

    id: str
    row: int
    fields: dict[str, Any]
    split: str = ""


@dataclass(frozen=True)
class Gathering:
    """How rows become items; rows that make none become rows of the writer's ledger."""

    layout: Layout
    split_column: str | None
    writer: SetWriter

    def gather(self, rows: Iterable[Row]) -> list[Item]:
        """The items of a table, in the order of their first rows."""
        items: dict[str, Item] = {}
        for row in rows:
            try:
                item = self._item(row)
            except DamagedItem as error:
                self.writer.reject(self._split(row), f"row {row.number}", "damaged", str(error))
                continue
            first = items.setdefault(str(item.fields[self.layout.item]), item)
            repeated = None if first is item else self._merge(first, item)
            if repeated:
                self.writer.reject(item.split, f"row {row.number}", "duplicate", repeated)
        return list(items.values())

    def _item(self, row: Row) -> Item:
        """A row as an item. Raises DamagedItem where the row is damaged or lacks a value."""
        if row.damage:
            raise DamagedItem(row.damage)
        if self.split_column and not self._split(row):
            raise DamagedItem(f"the column '{self.split_column}' is empty")
        fields = {name: _value(row, self.layout.columns[name]) for name in self.layout.fields}
        for name in self.layout.skills:
            fields[name] = _texts(fields[name]) if name in self.layout.lists else str(fields[name])
        return Item(self._id(row, fields), row.number, fields, self._split(row))

    def _id(self, row: Row, fields: Mapping[str, Any]) -> str:
        """What the column of ids says, else the path of the item's file, else the number of its row."""
        if ID in self.layout.columns:
            return str(_value(row, self.layout.columns[ID]))
        return str(fields[self.layout.item]) if self.layout.media else f"row {row.number}"

    def _split(self, row: Row) -> str:
        return str(row.cells.get(self.split_column) or "").strip() if self.split_column else ""

    def _merge(self, item: Item, other: Item) -> str | None:
        """Add a row's texts to the item that it repeats, or say why the row is left out."""
        same, target = f"the same {self.layout.item} as in row {item.row}", self.layout.target
        if item.split != other.split:
            return f"{same}, which is in split '{item.split}'"
        if target and item.fields[target] != other.fields[target]:
            return f"{same} with another {target}"
        added = 0
        for name in self.layout.lists:
            new = [text for text in other.fields[name] if text not in item.fields[name]]
            item.fields[name].extend(new)
            added += len(new)
        return None if added else same


def _value(row: Row, column: str) -> Any:
    value = row.cells.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DamagedItem(f"the column '{column}' is empty")
    return value.strip("\r\n") if isinstance(value, str) else value


def _texts(value: Any) -> list[str]:
    """The texts of a cell, which holds one or a list of them. Raises DamagedItem where there is none."""
    texts = [str(each).strip() for each in (value if isinstance(value, list) else [value])]
    if not any(texts):
        raise DamagedItem("it has no text")
    return [text for text in texts if text]
