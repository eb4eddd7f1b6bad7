"""Which column of a table is which field of a task's samples."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from skillnet_cli.api import Task, UserError
from skillnet_cli.plugins import Registry

ID = "id"


@dataclass(frozen=True)
class Layout:
    """How a task's samples lie in a table.

    A modality that builds vocabularies reads texts themselves, any other reads files, whose paths the table has. Rows
    with the same value of ``item`` are one sample. That is the field of files if there is one, else the last of the
    task's skills; the other skills' texts are gathered in lists, and so are those of a task of a single skill.

    ``columns`` has the column of every field, the optional ``id`` included; ``media`` the fields of files; ``lists``
    those gathered in lists.
    """

    columns: Mapping[str, str]
    skills: tuple[str, ...]
    item: str
    media: frozenset[str]
    lists: tuple[str, ...]
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
    wanted = [*task.skills, *([task.target] if task.target else [])]
    for field in columns:
        if field not in (*wanted, ID):
            raise UserError(f"task '{task.name}' has no field '{field}'{_near(field, wanted)}")
    media = frozenset(skill for skill in task.skills if not registry.modality(skill).vocabularies)
    if len(media) > 1:
        raise UserError(f"task '{task.name}' reads files for {' and '.join(sorted(media))}: a table can name one kind")
    item = next(iter(media), task.skills[-1])
    lists = tuple(skill for skill in task.skills if skill not in media and (skill != item or len(task.skills) == 1))
    named = {field: columns.get(field, field) for field in wanted}
    return Layout({**named, **columns}, task.skills, item, media, lists, task.target)


def check_columns(layout: Layout, there: Collection[str], table: str) -> None:
    """Raises UserError where a table has not the columns that a layout needs."""
    for field, column in layout.columns.items():
        if column not in there:
            advice = _near(column, there)
            raise UserError(f"{table} has no column '{column}' for the field '{field}'{advice}")


def _near(name: str, there: Collection[str]) -> str:
    near = difflib.get_close_matches(name, there, n=1)
    return f": did you mean '{near[0]}'?" if near else f": it has {', '.join(map(str, there)) or 'none'}"
