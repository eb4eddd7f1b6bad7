"""Reads a text from wherever it is given: a string, bytes or a file."""

from __future__ import annotations

from collections.abc import Callable

from skillnet_cli.api import DamagedItem, Source
from skillnet_cli.sources.texts import decode
from skillnet_cli.untrusted import Untrusted, read_bytes

LARGEST = 64 << 20
"""Bytes of a text that is read as one item; Chinese novels have 1 to 5 million."""


def open_text(source: Source, decode: Callable[[bytes], str] = decode) -> str:
    """The text of a source: a string is the text itself; bytes and files may be in any usual encoding.

    Args:
        source: the text, or where it is.
        decode: makes bytes a text.

    Raises:
        DamagedItem: the file cannot be read, is too large, is no text, or holds nothing but white space.
    """
    text = source if isinstance(source, str) else decode(_read(source))
    if not text.strip():
        raise DamagedItem("the text is empty")
    return text


def _read(source: Source) -> bytes:
    if isinstance(source, bytes):
        if len(source) > LARGEST:
            raise DamagedItem(f"the text has more than {LARGEST:,} bytes")
        return source
    try:
        return read_bytes(source, LARGEST)  # type: ignore[arg-type] # a string is never read
    except OSError as error:
        raise DamagedItem(f"cannot read {source}: {error.strerror}") from error
    except Untrusted as error:
        raise DamagedItem(f"it {error}") from error
