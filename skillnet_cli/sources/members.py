"""A file of a source wherever it lies, and what becomes of damage and of what is not read."""

from __future__ import annotations

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any, TypeAlias, cast

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.files import CHUNK
from skillnet_cli.sources.bounds import MAX_CONTENT
from skillnet_cli.sources.inputs import note
from skillnet_cli.untrusted import Untrusted, open_regular

READ_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, UnicodeDecodeError, EOFError,
    OSError, NotImplementedError, RecursionError, Untrusted,
)  # fmt: skip
"""What the modules of the standard library raise where an archive or a compressed file is damaged."""

Refuse: TypeAlias = Callable[[str, str], None]
"""Called with the path and the reason for each member that is not read."""


@dataclass(frozen=True)
class Member:
    """A file of a source: its path with forward slashes, its size in bytes, and how it is opened.

    ``seekable`` says whether any place in it can be reached without reading all that comes before it.
    """

    name: str
    size: int
    open: Callable[[], BufferedIOBase]
    seekable: bool = True

    def read(self) -> bytes:
        """Return the content. Raises DamagedItem where it cannot be read, or has more than :data:`MAX_CONTENT`."""
        if self.size > MAX_CONTENT:
            raise DamagedItem(f"'{self.name}' is not read, because it has {self.size} bytes")
        try:
            content = bytearray()
            with self.open() as file:
                # In pieces, and no more than was stated: memory is spent on what is there, not on what is claimed.
                while piece := file.read(min(CHUNK, self.size + 1 - len(content))):
                    content += piece
            if len(content) != self.size:
                more = "more than" if len(content) > self.size else f"only {len(content)} of"
                raise EOFError(f"{more} {self.size} bytes are there")
        except READ_ERRORS as error:
            raise DamagedItem(f"'{self.name}' cannot be read ({_words(error)})") from error
        return bytes(content)


def file_member(name: str, path: Path) -> Member:
    """A file as a member of that name."""
    return Member(name, path.stat().st_size, cast(Any, partial(_open_regular, path)))


def _open_regular(path: Path) -> BufferedIOBase:
    note(path)
    return cast(Any, open_regular(path))


def open_file(path: Path) -> BufferedIOBase:
    """Open a file of a source. Raises UserError where it cannot be, or is a named pipe or a device."""
    try:
        return cast(Any, open_regular(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except Untrusted as error:
        raise UserError(f"{path}: {error}") from error


@contextmanager
def damage_reported(label: str) -> Iterator[None]:
    """Turn whatever the archive modules raise into one line. Raises UserError, beginning with ``label``."""
    try:
        yield
    except READ_ERRORS as error:
        raise UserError(f"{label}: not an archive, or a damaged one ({_words(error)}): fetch it again") from error


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
