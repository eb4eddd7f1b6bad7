"""Reads a text from wherever it is given: a string, bytes or a file."""

from __future__ import annotations

from pathlib import Path

from skillnet_cli.api import DamagedItem, Source


def open_text(source: Source) -> str:
    """The text of a source: a string is the text itself; bytes and files must be UTF-8, with or without a BOM.

    Raises:
        DamagedItem: the file cannot be read, is in another encoding, or holds nothing but white space.
    """
    text = source if isinstance(source, str) else _decode(_read(source))
    if not text.strip():
        raise DamagedItem("the text is empty")
    return text


def _read(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise DamagedItem(f"cannot read {source}: {error.strerror}") from error


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = content[error.start]
        raise DamagedItem(f"not UTF-8 (byte 0x{found:02x} at {error.start}): save the text as UTF-8") from error
