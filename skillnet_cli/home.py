"""What ``~`` stands for in arguments and recipes. A file of its own, because every start of the command reads it."""

from __future__ import annotations

import re
from pathlib import Path

_HOME = re.compile(r"((?:--)?[\w.-]+=)?(~(?:/.*)?)", re.DOTALL)


def expand_home(argument: str) -> str:
    """An argument, or a value in a recipe, with the home for ``~`` where it is a path below that.

    A shell does so for a word that begins with it, but not for ``--out=~/x`` or for what stands in quotation marks.
    """
    found = _HOME.fullmatch(argument)
    return f"{found[1] or ''}{Path(found[2]).expanduser()}" if found else argument
