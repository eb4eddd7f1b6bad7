"""Compressed files: gzip, bzip2, xz and zstandard, by what they begin with."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from io import BufferedIOBase
from typing import Any, cast

from skillnet_cli.api import UserError
from skillnet_cli.files import CHUNK

PADDING = 1 << 16
"""Zeros in a row that are no padding to the blocks of a medium any more."""


def decompressed(file: BufferedIOBase) -> BufferedIOBase:
    """Return a file's bytes from its beginning, decompressed if it is gzip, bzip2, xz or zstandard.

    Raises:
        UserError: it is zstandard, and zstandard is not installed.
    """
    file.seek(0)
    start = file.read(6) or b""  # None: a file of the kernel that has nothing more to say
    file.seek(0)
    for magic, opened in _COMPRESSIONS.items():
        if start.startswith(magic):
            return opened(file)
    return file


class _Padded:
    """A gzip file, whose padding with zeros GzipFile reads byte by byte: for minutes where there are gigabytes."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._zeros = 0
        self._ahead = b""

    def read(self, size: int = -1) -> bytes:
        """As of a file, but that zeros are left out once many have been read one by one."""
        if self._ahead:
            content, self._ahead = (self._ahead, b"") if size < 0 else (self._ahead[:size], self._ahead[size:])
        else:
            content = self._file.read(size)
        self._zeros = self._zeros + 1 if content == b"\0" and size == 1 else 0
        if self._zeros < PADDING:
            return bytes(content)
        while content and not content.strip(b"\0"):
            content = self._ahead or self._file.read(CHUNK)
            self._ahead = b""
        content = content.lstrip(b"\0")
        self._ahead = content[1:]
        return bytes(content[:1])

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place of the file."""
        self._zeros, self._ahead = 0, b""
        return int(self._file.seek(offset, whence))


def _zstandard(file: Any) -> BufferedIOBase:
    try:
        import zstandard
    except ImportError as error:
        raise UserError("reading zstandard files needs zstandard: pip install 'skillnet-cli[zstd]'") from error

    class Decompressed(io.RawIOBase):
        """zstandard's reader, which cannot be buffered itself and has an error of its own."""

        def __init__(self) -> None:
            self._stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            try:
                return int(self._stream.readinto(buffer))
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from error

    return io.BufferedReader(Decompressed())


_COMPRESSIONS: dict[bytes, Callable[[Any], BufferedIOBase]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=cast(Any, _Padded(file))),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _zstandard,
}
"""The bytes that a compressed file begins with, and what decompresses it."""
