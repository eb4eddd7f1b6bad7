"""A row of a table, whatever kind of table it is of, and a file that lies in a table itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
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
        sha256: of its content, by which equal files are known.
        read: gives the content; raises DamagedItem where that is no longer there.
    """

    name: str
    suffix: str
    sha256: str
    read: Callable[[], bytes]

    @classmethod
    def of(cls, content: bytes, called: str, read: Callable[[], bytes], name: str = "") -> Enclosed:
        """The cell of a file with this content, whose own name ends as ``called`` does."""
        suffix = PurePosixPath(called).suffix.lower()
        return cls(name, suffix, hashlib.sha256(content).hexdigest(), read)

    def __repr__(self) -> str:
        return f"the file {self.name}" if self.name else "a file"
