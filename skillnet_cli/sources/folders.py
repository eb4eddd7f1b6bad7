"""The files below a folder, in order, without what leads out of it, and without prepared sets."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from skillnet_cli.data.format import LEDGER, MANIFEST, WORK
from skillnet_cli.sources.members import Refuse

MAX_DEPTH = 100
"""How deep folders may lie in one another."""
LEFT_BY_FILE_MANAGERS = re.compile(r"(__MACOSX/.*|(.*/)?\.DS_Store)\Z")
OUT_OF_FOLDER = "is a link that leads out of the folder"


def files_below(folder: Path, refuse: Refuse) -> Iterator[tuple[str, Path]]:
    """The files below a folder in order of name, with their paths in it; neither links to folders
    nor prepared sets are entered.

    Args:
        folder: where to look.
        refuse: called with the path and the reason for everything that is no file of it: links that lead out, to
            nothing or in a circle, named pipes and devices, folders that cannot be read or lie too deep.
    """
    root = os.path.realpath(folder)
    for name, path, reason in _in_order(folder, "", 1):
        if LEFT_BY_FILE_MANAGERS.match(name):
            continue
        reason = reason or (_why_no_file(path, root) if path.is_symlink() or not path.is_file() else "")
        if reason:
            refuse(name, f"'{name}' {reason}")
        elif path.is_file():  # and no link to a folder
            yield name, path


def _why_no_file(path: Path, root: str) -> str:
    """Why a link, or what is neither a file nor a folder, is not read; nothing where it is."""
    target = os.path.realpath(path)  # of a circle of links it gives one of them; Path.resolve raises
    if path.is_symlink() and not Path(target).is_relative_to(root):
        return OUT_OF_FOLDER
    try:
        mode = path.stat().st_mode
    except OSError:  # a circle of links among them
        return "is a link to nothing"
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "is a named pipe or a device, not a file"


def _in_order(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, Path, str]]:
    """Everything below a folder but the folders, by path, or a folder and why it is not entered."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield prefix.rstrip("/") or folder.name, folder, f"cannot be read ({error.strerror})"
        return
    for entry in found:
        if not entry.is_dir(follow_symlinks=False):
            yield prefix + entry.name, Path(entry.path), ""
        elif _is_prepared_set(Path(entry.path)):
            continue
        elif depth < MAX_DEPTH:
            yield from _in_order(Path(entry.path), f"{prefix}{entry.name}/", depth + 1)
        else:
            yield prefix + entry.name, Path(entry.path), f"lies more than {MAX_DEPTH} folders deep"


def _is_prepared_set(folder: Path) -> bool:
    """Whether a folder is a prepared set, finished or not: the one that is being made may lie in its own source."""
    return (folder / WORK).is_dir() or ((folder / MANIFEST).is_file() and (folder / LEDGER).is_file())
