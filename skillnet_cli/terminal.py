"""Printing for people: nothing that data holds acts on the terminal, whatever the terminal's encoding is.

Standard output has what was asked for, standard error everything else. Every line passes through :func:`print_line` or
:func:`remark`; ruff keeps ``print`` out of the other files.
"""

from __future__ import annotations

import json
import os
import sys
from io import TextIOWrapper
from typing import Any

from skillnet_cli.untrusted import is_shown, printable

VERBOSITY = "SKILLNET_VERBOSITY"
"""The variable that says how much is printed: ``quiet``, ``verbose``, or as usual; processes inherit it."""


def is_quiet() -> bool:
    """Whether only answers and errors are wanted."""
    return os.environ.get(VERBOSITY) == "quiet"


def is_verbose() -> bool:
    """Whether what libraries log, and the traceback of an error, are wanted too."""
    return os.environ.get(VERBOSITY) == "verbose"


def show_logs() -> None:
    """Print what this program's libraries log, on standard error, where that is wanted."""
    if is_verbose():
        import logging

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")


def print_line(text: str = "", end: str = "\n") -> None:
    """Print on standard output at once; whoever reads it from a pipe sees each line as it is made."""
    print(printable(text), end=end, flush=True)


def remark(text: str) -> None:
    """Print a line on standard error, unless only answers and errors are wanted."""
    if not is_quiet():
        print_error(f"skillnet: {text}")


def print_error(text: str) -> None:
    """Print a line on standard error as it is."""
    print(printable(text), file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """Print one JSON document on standard output; what a terminal would obey or cannot show is escaped."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(document, ensure_ascii=not unicode, indent=2)
    print("".join(each if is_shown(each) else _escaped(each) for each in text), flush=True)


def _escaped(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]  # JSON does not count it as a control


def tolerate_encodings() -> None:
    """From now on a character that an output's encoding lacks is printed as a question mark, and is no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
