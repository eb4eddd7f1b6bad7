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
from skillnet_cli.files import CHUNK

BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError)
_NO_HEADER = (
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
    tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
    tarfile.SubsequentHeaderError,  # type: ignore[attr-defined]
)
_NOISE = re.compile(r"(__MACOSX/.*|(.*/)?\.DS_Store)\Z")


def _zstandard(file: Any) -> BufferedIOBase:
    try:
        import zstandard
    except ImportError as error:
        raise UserError("reading zstandard files needs zstandard: pip install 'skillnet-cli[zstd]'") from error

    class Unpacked(io.RawIOBase):
        def __init__(self) -> None:
            self._stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            try:
                return int(self._stream.readinto(buffer))
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from error

    return io.BufferedReader(Unpacked())


_COMPRESSIONS: dict[bytes, Callable[[Any], BufferedIOBase]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _zstandard,
}
LEADS_OUT = "leads out of the archive"
_NOT_FOLLOWED = "which is not followed"
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
class Refusal:
    """A member that is not read, and why."""

    archive: str
    name: str
    why: str

    def __str__(self) -> str:
        path = "the path " if self.why == LEADS_OUT else ""
        return f"{path}'{self.name}' {self.why}"


@dataclass(frozen=True)
class Member:
    """A file in an archive: its path with forward slashes, its size in bytes, its content.

    ``read`` works once, and until the next member is asked for. It raises DamagedItem where this one file is damaged.
    """

    name: str
    size: int
    read: Callable[[], bytes]


def members(
    archive: Path | Member, limits: Limits | None = None, refuse: Callable[[Refusal], None] | None = None
) -> Iterator[Member]:
    """The files of an archive (zip, wheel, tar, compressed tar) in its order, or of a folder in order of name.

    Args:
        archive: a path, or a member of another archive that is itself one.
        limits: bounds on members and bytes.
        refuse: is told of each member that leads outside, is a link, a device or encrypted, and the others follow;
            without it, one such member is an error.

    Raises:
        UserError: it is no archive, is damaged or goes beyond the limits; without ``refuse`` also where it is
            encrypted, leads outside itself, or holds links or devices.
    """
    refuse = refuse or _raise
    if isinstance(archive, Path) and archive.is_dir():
        yield from _of_folder(archive)
        return
    label = archive.name if isinstance(archive, Member) else str(archive)
    with _opened(archive) as file, _one_line(label):
        size = file.seek(0, os.SEEK_END)
        found = _of_zip(file, label, refuse) if _is_zip(file) else _of_tar(file, label, refuse)
        yield from _bounded(found, size, label, limits or Limits(), refuse)


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
    except BROKEN as error:
        raise UserError(f"{label}: not an archive, or a damaged one ({error or type(error).__name__})") from error


def _is_zip(file: BufferedIOBase) -> bool:
    file.seek(0)
    return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _of_zip(file: BufferedIOBase, label: str, refuse: Callable[[Refusal], None]) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            name = zip_name(info)
            if why := why_refused(info):
                refuse(Refusal(label, name, why))
                continue
            yield Member(name, info.file_size, _reading(name, lambda info=info: archive.read(info)))  # type: ignore[misc]


def why_refused(info: zipfile.ZipInfo | tarfile.TarInfo) -> str | None:
    """Why a member that is no folder is not read, None where it is."""
    if isinstance(info, zipfile.ZipInfo):
        if info.flag_bits & 1:
            return "is encrypted"
        return f"is a link, {_NOT_FOLLOWED}" if (info.external_attr >> 16) & 0o170000 == 0o120000 else None
    if info.issym() or info.islnk():
        return f"is a link, {_NOT_FOLLOWED}"
    return None if info.isreg() and not info.issparse() else f"is a device, {_NOT_FOLLOWED}"


def zip_name(info: zipfile.ZipInfo) -> str:
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


def _of_tar(file: BufferedIOBase, label: str, refuse: Callable[[Refusal], None]) -> Iterator[Member]:
    stream = _Ending(decompressed(file))
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=Header) as archive:  # type: ignore[call-overload]
        for info in archive:
            if info.isdir():
                continue
            if why := why_refused(info):
                refuse(Refusal(label, info.name, why))
                continue
            yield Member(info.name, info.size, _reading(info.name, lambda info=info: _tar_content(archive, info)))  # type: ignore[misc]
    stream.check()


def decompressed(file: BufferedIOBase) -> BufferedIOBase:
    """The bytes of a file, unpacked where it is compressed (gzip, bzip2, xz, zstandard)."""
    file.seek(0)
    start = file.read(6)
    file.seek(0)
    for magic, opened in _COMPRESSIONS.items():
        if start.startswith(magic):
            return opened(file)
    return file


class Header(tarfile.TarInfo):
    """A header in a tar, of which a damaged one is an error; tarfile would take it for the end and say nothing."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Header:
        """The next header. Raises ReadError where it is none."""
        try:
            return super().fromtarfile(archive)
        except _NO_HEADER as error:
            raise tarfile.ReadError(f"the header at byte {archive.offset} is damaged: {error}") from error


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
        except BROKEN as error:
            raise DamagedItem(f"'{name}' cannot be read ({error or type(error).__name__})") from error

    return guarded


def _bounded(
    found: Iterator[Member], size: int, label: str, limits: Limits, refuse: Callable[[Refusal], None]
) -> Iterator[Member]:
    """Pass members on while their names stay inside and their number and sizes within the limits."""
    bound = Bound(label, size, limits)
    for member in found:
        name = inside(member.name)
        if name is None:
            refuse(Refusal(label, member.name, LEADS_OUT))
            continue
        bound.count(name, member.size)
        if not is_noise(name):
            yield Member(name, member.size, member.read)


@dataclass
class Bound:
    """Counts what an archive of ``size`` bytes unpacks to."""

    label: str
    size: int
    limits: Limits
    members: int = 0
    total: int = 0

    def count(self, name: str, size: int) -> None:
        """Count a member. Raises UserError where it is one too many, or too large."""
        self.members += 1
        self.total += size
        if self.members > self.limits.members:
            raise UserError(f"{self.label}: holds more than {self.limits.members} files, which is not read")
        if size > self.limits.member_bytes or self.total > self.limits.total_bytes:
            raise UserError(f"{self.label}: '{name}' makes it unpack to {self.total} bytes, which is not read")
        if self.total > max(SMALL, self.limits.ratio * self.size):
            times = self.limits.ratio
            raise UserError(f"{self.label}: unpacks to more than {times} times its size, which is not read")


def inside(name: str) -> str | None:
    """A member's path with forward slashes and without ``./``; None where it is absolute or climbs out."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        return None
    return path.as_posix()


def is_noise(name: str) -> bool:
    """Whether a file is one that file managers leave behind."""
    return bool(_NOISE.match(name))


def _raise(refusal: Refusal) -> None:
    advice = "do not trust it" if refusal.why == LEADS_OUT else "unpack the archive and give its folder"
    raise UserError(f"{refusal.archive}: {refusal}: {advice}")
