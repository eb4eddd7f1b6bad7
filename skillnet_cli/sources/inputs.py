"""Which files a piece of work reads, each as it was when it was opened: so that a change is noticed later.

A file is known by its size, its time of modification and its inode. Whatever opens a file of a source says so with
:func:`note`; whoever wants to know encloses the work in :func:`noted`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[int, int, int] | None
"""Size in bytes, time of modification in nanoseconds, inode; None where there is no such file."""

_notes: dict[str, Stamp] | None = None
"""What is noted now; one for the whole process, since a range is read by one thread, perhaps with others' help."""


def stamp_of(path: Path | str) -> Stamp:
    """What a file is recognised by."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


@contextmanager
def noted() -> Iterator[dict[str, Stamp]]:
    """Collect the files that are opened within, by their absolute paths."""
    global _notes
    outer, _notes = _notes, {}
    try:
        yield _notes
    finally:
        _notes = outer


def note(path: Path | str, stamp: Stamp | str = "now") -> None:
    """Say that a file is read, or that it was looked for and is not there.

    Args:
        path: of the file.
        stamp: as it was when it was looked at first; without it, as it is now.
    """
    if _notes is not None:
        _notes.setdefault(str(Path(path).absolute()), stamp_of(path) if isinstance(stamp, str) else stamp)


def changed(stamps: dict[str, Stamp], same_machine: bool = True) -> list[str]:
    """Which files are no longer as they were noted.

    Args:
        stamps: path -> how it was.
        same_machine: whether they were noted here. Another machine may have a copy, with its own times: there only
            sizes are compared, and files that are not here at all are passed over.
    """
    if same_machine:
        return [path for path, stamp in stamps.items() if stamp_of(path) != stamp]
    here = {path: found for path in stamps if (found := stamp_of(path))}
    return [path for path, found in here.items() if (stamps[path] or (-1,))[0] != found[0]]
