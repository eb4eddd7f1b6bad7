"""Zips: their members, by any of the names that writers give them, read in bounded memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

from skillnet_cli.sources.members import READ_ERRORS, Member, Refuse, open_file

MAX_ZIP_DIRECTORY = 128 << 20
"""Bytes of a zip's list of its members, which zipfile reads whole: some million of them."""


def is_zip(file: BufferedIOBase) -> bool:
    """Whether a file begins like a zip; zipfile.is_zipfile also takes a tar whose last member is a zip for one."""
    file.seek(0)
    return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def zip_members(file: Path | BufferedIOBase, refuse: Refuse) -> Iterator[Member]:
    """The members of a zip, as its directory at the end lists them.

    Args:
        file: the zip.
        refuse: called for links and encrypted members.

    Raises:
        READ_ERRORS: it is damaged.
    """
    opened = open_file(file) if isinstance(file, Path) else file  # stays open as long as its members
    _check_directory(opened)
    archive = zipfile.ZipFile(cast(Any, opened))
    for info in archive.infolist():
        name = _zip_name(info)
        if name.endswith("/"):
            continue
        if info.flag_bits & 1:
            refuse(name, f"'{name}' is encrypted")
        elif (info.external_attr >> 16) & 0o170000 == 0o120000:  # Unix's mode of a symbolic link
            refuse(name, f"'{name}' is a link, which is not followed")
        else:
            yield Member(name, info.file_size, cast(Any, partial(_open_in_zip, archive, info)), seekable=False)


def _check_directory(file: BufferedIOBase) -> None:
    """Raise BadZipFile where a zip's list of members is too long to be held in memory."""
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined] # as ZipFile itself finds it, in Python 3.10 to 3.14
    if end and end[zipfile._ECD_SIZE] > MAX_ZIP_DIRECTORY:  # type: ignore[attr-defined]
        raise zipfile.BadZipFile(f"its list of files has more than {MAX_ZIP_DIRECTORY} bytes")


def _open_in_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BufferedIOBase:
    """Open a member of a zip; one whose own header is damaged opens, and its damage is met by reading, as any other."""
    try:
        member = archive.open(info)
    except READ_ERRORS as error:
        return io.BufferedReader(_Unreadable(error))
    if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return cast(Any, member)
    return io.BufferedReader(_InSmallPieces(member))


class _Unreadable(io.RawIOBase):
    def __init__(self, error: Exception) -> None:
        self._error = error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        raise self._error

    def readinto(self, buffer: Any) -> int:
        raise self._error


class _InSmallPieces(io.RawIOBase):
    """A bzip2 or LZMA member of a zip: zipfile unpacks what it reads at a time whole, whatever comes of it."""

    def __init__(self, member: Any) -> None:
        self._member = member

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._member.read1(min(len(buffer), 4096))
        buffer[: len(piece)] = piece
        return len(piece)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """A member's name; without the flag for UTF-8, Chinese tools write UTF-8 or GB 18030 all the same."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        raw = info.orig_filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    for encoding in ("utf-8", "gb18030"):
        with suppress(UnicodeDecodeError):
            return raw.decode(encoding).replace("\\", "/")
    return info.filename
