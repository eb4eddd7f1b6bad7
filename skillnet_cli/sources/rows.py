"""A row of a table, whatever kind of table it is of, and a file that lies in a table itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from typing import Any

PART = "split"
"""The column that has the part of each row, where the names of files say it."""
EMPTY = "an empty line"
"""Why an empty row is left out; it is no damage."""


@dataclass(frozen=True)
class Row:
    """A row, counted from 1 below the header: its cells by column; or ``damage``, the reason why it cannot be read.

    An ``empty`` line is not counted: its number is that of the row before.
    """

    number: int
    cells: Mapping[str, Any] = field(default_factory=dict)
    damage: str | None = None
    empty: bool = False


@dataclass(frozen=True)
class Enclosed:
    """The cell of a file that lies in its table, and is read from there when it is needed.

    Attributes:
        name: its path in the table, "" where it has none of its own.
        suffix: that of its name in small letters, "" where it has none.
        read: gives the content; raises DamagedItem where that cannot be read, or is no longer there.
        content: where it is at hand already; it is not kept.
    """

    name: str
    suffix: str
    read: Callable[[], bytes]
    content: InitVar[bytes | None] = None

    def __post_init__(self, content: bytes | None) -> None:
        if content is not None:
            self.__dict__["sha256"] = hashlib.sha256(content).hexdigest()

    @cached_property
    def sha256(self) -> str:
        """Of the content, by which equal files are known. Raises DamagedItem as ``read`` does."""
        return hashlib.sha256(self.read()).hexdigest()

    def __repr__(self) -> str:
        return f"the file {self.name}" if self.name else "a file"
