"""The characters that transcripts are spelt in: the outputs of speech recognition."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from skillnet_cli.api import UserError
from skillnet_cli.sources.texts import read_lines

ASSET = "vocab.txt"


def read_characters(path: Path) -> list[str]:
    """The characters that a file lists, one at the beginning of each line, in its order.

    What follows a blank (a number, say) is not looked at, and longer entries, such as marks for blanks and word-pieces,
    are passed over.

    Raises:
        UserError: the file cannot be read, is not text, or lists none.
    """
    found: dict[str, None] = {}
    for line in read_lines(path):
        if line.damage:
            raise UserError(f"--vocab {path}: {line.damage}")
        entry = line.text.split()[:1]
        if entry and len(entry[0]) == 1:
            found[entry[0]] = None
    if not found:
        raise UserError(f"--vocab {path}: it lists no characters: write one a line")
    return list(found)


def write_characters(characters: Iterable[str]) -> bytes:
    """The content of a file that :func:`read_characters` reads."""
    return "".join(f"{each}\n" for each in characters).encode()
