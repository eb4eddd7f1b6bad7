"""What is named on the command line: which of it are paths, which are sets, and which are texts.

Imports nothing heavy, so that what names nothing is said at once.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from skillnet_cli.api import UserError
from skillnet_cli.data.prepared import DEFAULT_SPLIT, Split, find_split
from skillnet_cli.plugins import Registry


def existing_path(named: str) -> Path | None:
    """The path, in whichever form of Unicode it exists: a keyboard and a file system may prefer different ones."""
    for form in (named, *(unicodedata.normalize(form, named) for form in ("NFC", "NFD"))):
        with suppress(ValueError):  # a null byte
            if os.path.lexists(form):
                return Path(form)
    return None


def open_named_split(named: str, roots: Sequence[Path]) -> Split:
    """The split that ``SET[:PART]`` names. Raises UserError where it names neither a split nor anything else."""
    try:
        prepared, split = find_split(named, roots)
    except UserError as error:
        raise UserError(f"'{named}' is neither a file nor a folder, and there is {error}") from error
    return prepared.split(split or DEFAULT_SPLIT)


def check_query(text: str, registry: Registry) -> Path | None:
    """The file that a query names; None where it is a sentence.

    Args:
        text: a sentence or a path.
        registry: whose modalities claim files.

    Raises:
        UserError: it is empty, a folder, or the path of nothing.
    """
    text = decoded(text)
    if not text.strip():
        raise UserError("cannot search with an empty text")
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # a sentence may be too long for a path, or hold a null byte
        if names_a_file(text, registry):
            raise UserError(f"{text}: there is no such file") from None
        return None
    if stat.S_ISDIR(mode):
        raise UserError(f"{text} is a folder: search with one file, or with a sentence that is not its name")
    if not stat.S_ISREG(mode):
        raise UserError(f"{text} is not a file, but a pipe, a socket or a device: search with a file or a sentence")
    return path


def decoded(argument: str) -> str:
    """An argument of the command line as text, where Python could not decode it by the terminal's encoding.

    Raises:
        UserError: it is not UTF-8 either.
    """
    if not any("\ud800" <= each <= "\udfff" for each in argument):
        return argument
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"'{os.fsencode(argument).decode('utf-8', 'replace')}' is neither UTF-8 nor in the encoding of this "
            "terminal's locale: set LANG to the locale that it is written in, or save it as a file in UTF-8"
        ) from error


def names_a_file(text: str, registry: Registry) -> bool:
    """Whether a text that is no file's path was meant to be one.

    It was where it is written as one (``./``, ``../``, ``/`` and a folder that exists), or has no blank and a folder
    that exists in front, or the suffix of a modality.
    """
    if text.startswith((f".{os.sep}", f"..{os.sep}")):
        return True
    path = Path(text)
    if not path.is_absolute() and any(map(str.isspace, text)):
        return False
    with suppress(OSError, ValueError):
        if any(parent.name and parent.is_dir() for parent in path.parents):
            return True
        if any(map(str.isspace, text)):
            return False
    return registry.modality_of_suffix(path.suffix) is not None
