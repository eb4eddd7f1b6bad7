"""Where a name leads: the home for ``~``, a model's folder or its repository on a hub. Nothing is opened or fetched."""

from __future__ import annotations

import os
import re
from pathlib import Path

from skillnet_cli.api import UserError
from skillnet_cli.plugins import suggest

_HUB = "hf:"
"""What a repository's name may begin with, so that it is not taken for a path."""
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_HOME = re.compile(r"((?:--)?[\w.-]+=)?(~(?:/.*)?)", re.DOTALL)


def expand_home(argument: str) -> str:
    """An argument, or a value in a recipe, with the home for ``~`` where it is a path below that.

    A shell does so for a word that begins with it, but not for ``--out=~/x`` or for what stands in quotation marks.
    """
    found = _HOME.fullmatch(argument)
    return f"{found[1] or ''}{Path(found[2]).expanduser()}" if found else argument


def repository_of(model: str | os.PathLike[str]) -> str | None:
    """The repository ``owner/name`` that a model's name stands for; None where that is a folder on this machine.

    Raises:
        UserError: there is no such folder, and the name is not a repository's, or looks like a folder's misspelt.
    """
    folder, name = Path(model), os.fspath(model)
    if folder.is_dir():
        return None
    repository = name.removeprefix(_HUB)
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"{folder}: there is no such folder; a model is a folder, or a repository OWNER/NAME")
    if not name.startswith(_HUB):
        _check_no_path(folder)
    return repository


def _check_no_path(folder: Path) -> None:
    """Raises UserError where what is no folder seems to be one misspelt: that is said before the hub is asked."""
    owner = folder.parent
    if owner.is_dir():
        beside = [str(each) for each in sorted(owner.iterdir()) if each.is_dir() and not each.name.startswith(".")]
        hint = suggest(str(folder), beside, f"{owner} has {', '.join(beside[:10]) or 'no folders'}")
    elif near := suggest(str(owner), [each.name for each in Path().iterdir() if each.is_dir()]):
        hint = near
    else:
        return
    raise UserError(f"{folder}: there is no such folder{hint}; a repository of the hub is {_HUB}OWNER/NAME then")
