"""Tars: their members, as a stream or by their places in it; a damaged one is an error, never a shorter tar."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

from skillnet_cli.files import CHUNK, read_at
from skillnet_cli.sources.bounds import MAX_MEMBER_BYTES, check_unpacked
from skillnet_cli.sources.compression import decompressed
from skillnet_cli.sources.members import Member, Refuse

_LONGEST_HEADER = 1 << 18
"""Bytes of one extended header of a tar, which holds names and times, and of all that apply to the whole of it."""
_LONGEST_PADDING = 64 << 20
"""Bytes that are read behind the end of a tar; GNU tar fills up to 10 KiB, tapes some MiB."""


def streamed_tar_members(file: BufferedIOBase, refuse: Refuse) -> Iterator[Member]:
    """The members of a tar, compressed or not, each to be read before the next. Raises READ_ERRORS at damage."""
    size = file.seek(0, os.SEEK_END)
    unpacked = decompressed(file)
    stream = _Ending(unpacked, None if unpacked is file else size)
    with tarfile.open(fileobj=cast(Any, stream), mode="r|", tarinfo=_Header) as archive:
        for info in _tar_files(archive, refuse):
            yield Member(info.name, info.size, cast(Any, partial(archive.extractfile, info)), seekable=False)
    stream.check()


def indexed_tar_members(plain: Path, refuse: Refuse) -> Iterator[Member]:
    """The members of a tar that is not compressed, by their places; only headers are read. Raises READ_ERRORS too."""
    with tarfile.open(plain, "r:", tarinfo=_Header) as archive:
        for info in _tar_files(archive, refuse):
            yield Member(info.name, info.size, partial(_Slice.open, plain, info.offset_data, info.size))
        if archive.offset > plain.stat().st_size:
            raise EOFError("it ends in the middle of a file")


def _tar_files(archive: tarfile.TarFile, refuse: Refuse) -> Iterator[tarfile.TarInfo]:
    for info in archive:
        archive.members = []  # type: ignore[attr-defined] # tarfile would keep every header
        # Less would lead back to headers that were read already; more takes for ever to go past, a block at a time.
        if info.size < 0 or (info.size > MAX_MEMBER_BYTES and not info.isreg()):
            raise tarfile.ReadError(f"'{info.name}' claims {info.size} bytes")
        if info.isdir():
            continue
        if info.issym() or info.islnk():
            refuse(info.name, f"'{info.name}' is a link, which is not followed")
        elif not info.isreg() or info.issparse():
            refuse(info.name, f"'{info.name}' is a device, which is not followed")
        else:
            yield info
            if info.size > MAX_MEMBER_BYTES:
                raise tarfile.ReadError(f"'{info.name}' claims {info.size} bytes")


class _Header(tarfile.TarInfo):
    """A header in a tar, of which a damaged one is an error; tarfile would take it for the end and say nothing.

    Extended headers, which tarfile reads into memory whatever their size, are bounded.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except (tarfile.HeaderError, ValueError) as error:  # ValueError: a number of thousands of digits
            raise tarfile.ReadError(f"the header at byte {archive.offset} is damaged: {error}") from error

    def _proc_member(self, archive: Any) -> Any:
        extended = self.type in _EXTENDED_HEADERS
        kept = sum(len(key) + len(value) for key, value in archive.pax_headers.items()) if extended else 0
        if extended and self.size + kept > _LONGEST_HEADER:
            raise tarfile.ReadError(f"the header at byte {archive.offset} has more than {_LONGEST_HEADER} bytes")
        return super()._proc_member(archive)  # type: ignore[misc] # tarfile's own division, in Python 3.10 to 3.14

    def _proc_sparse(self, archive: Any) -> Any:
        """Go past the list of a sparse file's pieces, which may have no end: such files are not read."""
        extended = self._sparse_structs[1]  # type: ignore[attr-defined]
        del self._sparse_structs  # type: ignore[attr-defined]
        for _ in range(_LONGEST_HEADER // tarfile.BLOCKSIZE):
            if not extended:
                break
            extended = bool(archive.fileobj.read(tarfile.BLOCKSIZE)[504:505].strip(b"\0"))
        if extended:
            raise tarfile.ReadError(f"the header at byte {archive.offset} has more than {_LONGEST_HEADER} bytes")
        self.sparse: Any = []
        self.offset_data = archive.fileobj.tell()
        archive.offset = self.offset_data + self._block(self.size)  # type: ignore[attr-defined]
        return self

    def _proc_gnusparse_10(self, next: Any, pax_headers: Any, archive: Any) -> None:
        next.sparse = []  # its list of pieces lies in the file and is not read either


_EXTENDED_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class _Ending:
    """A tar's bytes; remembers the last block, because tarfile takes a tar that breaks off for one that ends.

    Args:
        file: the tar.
        packed: its size, where it is compressed.
    """

    def __init__(self, file: BufferedIOBase, packed: int | None) -> None:
        self._file = file
        self._packed = packed
        self._unpacked = 0
        self._last = b""

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self._unpacked += len(piece)
        if self._packed is not None:
            check_unpacked(self._packed, self._unpacked)
        self._last = (self._last + piece)[-tarfile.BLOCKSIZE :]
        return piece

    def check(self) -> None:
        """Raise EOFError where the tar does not end in an empty block."""
        behind = 0
        while behind < _LONGEST_PADDING and (piece := self.read(CHUNK)):
            behind += len(piece)
        if self._last != bytes(tarfile.BLOCKSIZE):
            raise EOFError("it breaks off")


class _Slice(io.RawIOBase):
    """A part of a file as a file of its own, with a handle of its own, so that threads share no position."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._start, self._size, self._at = start, size, 0

    @classmethod
    def open(cls, path: Path, start: int, size: int) -> BufferedIOBase:
        return io.BufferedReader(cls(path, start, size))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        piece = read_at(self._handle, wanted, self._start + self._at)
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            os.close(self._handle)
        super().close()
