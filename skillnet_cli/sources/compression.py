"""Compressed files: gzip, bzip2, xz and zstandard, by what they begin with."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from io import BufferedIOBase
from typing import Any

from skillnet_cli.api import UserError


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
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _zstandard,
}
"""The bytes that a compressed file begins with, and what decompresses it."""
