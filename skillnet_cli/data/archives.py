"""Walks through zip and tar archives, and plain folders, without ever extracting one."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.data.files import CHUNK

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError)
_NOISE = re.compile(r"(__MACOSX/.*|(.*/)?\.DS_Store)\Z")
_COMPRESSIONS: dict[bytes, Callable[[Any], BufferedIOBase]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
SMALL = 256 << 20
"""Archives that unpack to no more than this many bytes are no bombs, however well they are packed."""


@dataclass(frozen=True)
class Limits:
    """Bounds on what an archive may hold; ``ratio`` is how many times its own size it may unpack to."""

    members: int = 20_000_000
    member_bytes: int = 8 << 30
    total_bytes: int = 4 << 40
    ratio: int = 200


@dataclass(frozen=True)
class Member:
    """A file in an archive: its path with forward slashes, its size in bytes, its content.

    ``read`` works once, and until the next member is asked for. It raises DamagedItem where this one file is damaged.
    """

    name: str
    size: int
    read: Callable[[], bytes]


def members(archive: Path | Member, limits: Limits | None = None) -> Iterator[Member]:
    """The files of an archive (zip, wheel, tar, compressed tar) in its order, or of a folder in order of name.

    Args:
        archive: a path, or a member of another archive that is itself one.
        limits: bounds on members and bytes.

    Raises:
        UserError: it is no archive, is damaged or encrypted, leads outside itself, holds links or devices, or goes
            beyond the limits.
    """
    if isinstance(archive, Path) and archive.is_dir():
        yield from _of_folder(archive)
        return
    label = archive.name if isinstance(archive, Member) else str(archive)
    with _opened(archive) as file, _one_line(label):
        size = file.seek(0, os.SEEK_END)
        found = _of_zip(file, label) if _is_zip(file) else _of_tar(file, label)
        yield from _bounded(found, size, label, limits or Limits())


def _of_folder(folder: Path) -> Iterator[Member]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if not _NOISE.match(name):
            yield Member(name, path.stat().st_size, _reading(name, path.read_bytes))


@contextmanager
def _opened(archive: Path | Member) -> Iterator[BufferedIOBase]:
    if isinstance(archive, Member):
        yield io.BytesIO(archive.read())
        return
    try:
        file = open(archive, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UserError(f"{archive}: {error.strerror}") from error
    with file:
        yield file


@contextmanager
def _one_line(label: str) -> Iterator[None]:
    """Whatever the archive modules raise becomes a user's mistake; ours pass."""
    try:
        yield
    except _BROKEN as error:
        raise UserError(f"{label}: not an archive, or a damaged one ({error or type(error).__name__})") from error


def _is_zip(file: BufferedIOBase) -> bool:
    file.seek(0)
    return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _of_zip(file: BufferedIOBase, label: str) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            name = _zip_name(info)
            if info.flag_bits & 1:
                raise UserError(f"{label}: '{name}' is encrypted: unpack the archive and give its folder")
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise _leads_out(label, name, "a link")
            yield Member(name, info.file_size, _reading(name, lambda info=info: archive.read(info)))  # type: ignore[misc]


def _zip_name(info: zipfile.ZipInfo) -> str:
    """A member's name; without the flag for UTF-8, Chinese tools write UTF-8 or GB 18030 all the same."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        raw = info.orig_filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding).replace("\\", "/")
        except UnicodeDecodeError:
            continue
    return info.filename


def _of_tar(file: BufferedIOBase, label: str) -> Iterator[Member]:
    stream = _Ending(_decompressed(file))
    with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
        for info in archive:
            if info.isdir():
                continue
            if not info.isreg():
                raise _leads_out(label, info.name, "a link" if info.issym() or info.islnk() else "a device")
            yield Member(info.name, info.size, _reading(info.name, lambda info=info: _tar_content(archive, info)))  # type: ignore[misc]
    stream.check()


def _decompressed(file: BufferedIOBase) -> BufferedIOBase:
    file.seek(0)
    start = file.read(6)
    file.seek(0)
    for magic, opened in _COMPRESSIONS.items():
        if start.startswith(magic):
            return opened(file)
    return file


class _Ending:
    """A tar's bytes; remembers the last block, because tarfile takes a tar that breaks off for one that ends."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._last = b""

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self._last = (self._last + piece)[-tarfile.BLOCKSIZE :]
        return piece

    def check(self) -> None:
        """Raises EOFError where the tar does not end in an empty block."""
        while self.read(CHUNK):
            pass
        if self._last != bytes(tarfile.BLOCKSIZE):
            raise EOFError("it breaks off")


def _tar_content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    content = file.read() if file else b""
    if len(content) != info.size:
        raise EOFError("the archive ends in the middle of it")
    return content


def _reading(name: str, read: Callable[[], bytes]) -> Callable[[], bytes]:
    def guarded() -> bytes:
        try:
            return read()
        except _BROKEN as error:
            raise DamagedItem(f"'{name}' cannot be read ({error or type(error).__name__})") from error

    return guarded


def _bounded(found: Iterator[Member], size: int, label: str, limits: Limits) -> Iterator[Member]:
    """Pass members on while their names stay inside and their number and sizes within the limits."""
    total = 0
    for count, member in enumerate(found, 1):
        name = _inside(label, member.name)
        total += member.size
        if count > limits.members:
            raise UserError(f"{label}: holds more than {limits.members} files, which is not read")
        if member.size > limits.member_bytes or total > limits.total_bytes:
            raise UserError(f"{label}: '{name}' makes it unpack to {total} bytes, which is not read")
        if total > max(SMALL, limits.ratio * size):
            raise UserError(f"{label}: unpacks to more than {limits.ratio} times its size, which is not read")
        if not _NOISE.match(name):
            yield Member(name, member.size, member.read)


def _inside(label: str, name: str) -> str:
    """A member's path without ``./``. Raises UserError where it is absolute or climbs out."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise UserError(f"{label}: the path '{name}' leads out of the archive: do not trust it")
    return path.as_posix()


def _leads_out(label: str, name: str, what: str) -> UserError:
    return UserError(f"{label}: '{name}' is {what}, which is not followed: unpack the archive and give its folder")
