"""The files of a source wherever they lie: folders, zips, tars, compressed tars and single files read alike, by path.

Nothing is ever extracted. Links, devices, encrypted members and paths that lead out of an archive are refused, each
with a reason, and the number and sizes of members are bounded before memory or disk space is spent on them.
"""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, cast

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.data.format import LEDGER, MANIFEST, WORK
from skillnet_cli.files import CHUNK, disk_errors, make_folder, read_at, replace_path
from skillnet_cli.sources.inputs import Stamp, note, stamp_of
from skillnet_cli.untrusted import Untrusted, open_regular

READ_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, UnicodeDecodeError, EOFError,
    OSError, NotImplementedError, RecursionError, Untrusted,
)  # fmt: skip
"""What the modules of the standard library raise where an archive or a compressed file is damaged."""

MAX_MEMBERS = 20_000_000  # of an archive; the largest published ones have a few million
MAX_MEMBER_BYTES = 8 << 30
MAX_TOTAL_BYTES = 4 << 40
MAX_RATIO = 200
"""How many times its own size an archive may unpack to. Real ones seldom reach 20, zip bombs begin at 1,000."""
SMALL = 256 << 20
"""An archive that unpacks to no more than this many bytes is no bomb, however well it is compressed."""

MAX_CONTENT = 1 << 30
"""Bytes of a member that is read whole: a clip, a recording, an archive within an archive."""
MAX_ZIP_DIRECTORY = 128 << 20
"""Bytes of a zip's list of its members, which zipfile reads whole: some million of them."""
MAX_DEPTH = 100
"""How deep folders may lie in one another."""

_LONGEST_HEADER = 1 << 18
"""Bytes of one extended header of a tar, which holds names and times, and of all that apply to the whole of it."""
_LONGEST_PADDING = 64 << 20
"""Bytes that are read behind the end of a tar; GNU tar fills up to 10 KiB, tapes some MiB."""

_COMPRESSED_TAR = re.compile(r".*\.(tar\.(gz|bz2|xz|zst)|tgz|tbz2?|txz|tzst)\Z", re.IGNORECASE)
_NAMED_ARCHIVE = re.compile(r".*\.(zip|tar|tar\.\w+|tgz|tbz2?|txz|tzst)\Z", re.IGNORECASE)
_LEFT_BY_FILE_MANAGERS = re.compile(r"(__MACOSX/.*|(.*/)?\.DS_Store)\Z")
_OUT_OF_ARCHIVE = "leads out of the archive"
_OUT_OF_FOLDER = "is a link that leads out of the folder"

_Refuse: TypeAlias = Callable[[str, str], None]
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


class FileTree:
    """The files of one or several sources, in order: by name in a folder, as they lie in an archive.

    A source is a folder, an archive or a single file. Zips and tars that lie in a folder are looked into, and the path
    of such an archive is the beginning of its files' paths; so are compressed tars where :meth:`opens` says so. A
    compressed tar is unpacked once, into a plain tar in ``folder``, because nothing can be read from the middle of it.
    An archive within an archive is a file of the tree; :meth:`read_archive` walks through it.

    Args:
        sources: local paths.
        folder: where compressed tars are unpacked.

    Raises (when the tree is first looked at):
        UserError: a source is not an archive although it is named like one, is damaged as a whole, or too large.
    """

    def __init__(self, sources: Sequence[Path], folder: Path) -> None:
        self._sources = tuple(sources)
        self._folder = folder
        self._refused: list[tuple[str, str]] = []
        self._refused_within: list[tuple[str, str]] = []

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """All files in order."""
        return tuple(member for source in self._sources for member in self._of_source(source))

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Path and reason of everything in the sources that is not read."""
        return [each for each in self._refused if self.members is not None]

    def take_refused_within(self) -> list[tuple[str, str]]:
        """The same for archives within archives, as far as :meth:`read_archive` has met them since the last call."""
        found, self._refused_within = self._refused_within, []
        return found

    @cached_property
    def _by_name(self) -> dict[str, Member]:
        return {member.name: member for member in reversed(self.members)}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Member:
        """The file of this path. Raises DamagedItem where there is none."""
        try:
            return self._by_name[name]
        except KeyError:
            raise DamagedItem(f"there is no file '{name}'") from None

    def named(self, *patterns: str) -> list[Member]:
        """The files whose path, or the end of it after a slash, fits one of the patterns (``*`` also fits slashes)."""
        both = [each for pattern in patterns for each in (pattern, f"*/{pattern}")]
        return [member for member in self.members if any(fnmatch.fnmatchcase(member.name, each) for each in both)]

    def one(self, *patterns: str) -> Member:
        """The first file that fits one of the patterns. Raises UserError, naming them, where there is none."""
        for member in self.named(*patterns):
            return member
        where = ", ".join(map(str, self._sources)) or "no source"
        raise UserError(f"{where}: there is no {' or '.join(patterns)} in it: check --source")

    def read_archive(self, archive: Member) -> Iterator[Member]:
        """Walk through an archive of the tree, see :func:`read_archive`; what it refuses is counted.

        Raises:
            DamagedItem: it is not an archive, breaks off, or is too large; the members before that are sound.
        """

        def refuse(name: str, reason: str) -> None:
            self._refused_within.append((f"{archive.name}/{name}", reason))

        try:
            yield from read_archive(archive, refuse)
        except UserError as error:
            raise DamagedItem(str(error)) from error

    def opens(self, archive: Path) -> bool:
        """Whether a compressed tar that lies in a folder is looked into; else it is a file."""
        return False

    def _refuse(self, name: str, reason: str) -> None:
        self._refused.append((name, reason))

    def _of_source(self, source: Path) -> Iterator[Member]:
        if not source.is_dir():
            yield from self._of_file(source, "")
            return
        for name, path in files_below(source, self._refuse):
            if path.suffix.lower() in (".zip", ".tar"):
                yield from self._of_file(path, f"{name}/")
            elif _COMPRESSED_TAR.match(path.name) and self.opens(path):
                try:
                    yield from self._of_file(path, f"{name}/")
                except UserError as error:  # one that cannot be unpacked is counted; the others are read
                    self._refuse(name, str(error))
            else:
                yield file_member(name, path)

    def _of_file(self, path: Path, prefix: str) -> Iterator[Member]:
        stamp = stamp_of(path)
        kind = _kind_of(path)
        if kind == "zip":
            found = _zip_members(path, self._refuse)
        elif kind is not None:
            plain = self._unpacked(path, stamp) if kind == "compressed tar" else path
            found = _indexed_tar_members(plain, self._refuse)
        elif _NAMED_ARCHIVE.match(path.name):
            raise UserError(f"{path}: not an archive, or a damaged one: fetch it again")
        else:
            yield file_member(prefix.rstrip("/") or path.name, path)
            return
        packed = path.stat().st_size
        try:
            for member in _bounded(found, str(path), packed, self._refuse, prefix):
                yield replace(member, open=cast(Any, partial(_open_noted, path, stamp, member.open)))
        except UserError:
            self._plain(path, stamp).unlink(missing_ok=True)  # what is refused shall not fill the disk
            raise

    def _plain(self, path: Path, stamp: Stamp) -> Path:
        """Where a compressed tar is unpacked to; another version of it has another place."""
        return self._folder / f"{path.name}-{hashlib.sha256(repr(stamp).encode()).hexdigest()[:16]}.tar"

    def _unpacked(self, path: Path, stamp: Stamp) -> Path:
        """A compressed tar as a plain one, made once. It is whole when it has its name."""
        packed_size = path.stat().st_size
        plain = self._plain(path, stamp)
        if plain.exists():
            return plain
        make_folder(self._folder, "name another folder with --out")
        part = plain.with_name(f"{plain.name}.{os.getpid()}")  # several workers may unpack the same tar at a time
        try:
            with disk_errors(plain):
                with open_file(path) as packed, part.open("wb") as file:
                    unpacked, size = decompressed(packed), 0
                    while piece := _read_source(unpacked, path):
                        size += len(piece)
                        _check_bounds(str(path), packed_size, size)
                        file.write(piece)
                replace_path(plain, part)
        finally:
            part.unlink(missing_ok=True)
        return plain


def read_archive(archive: Path | Member, refuse: _Refuse | None = None) -> Iterator[Member]:
    """Walk through an archive (zip, wheel, tar, compressed tar) in its order, or a folder in order of name.

    A member can be read once, and until the next one is asked for.

    Args:
        archive: a path, or a member of another archive that is itself an archive.
        refuse: called with the path and the reason for each member that leads out, is a link or a device, or is
            encrypted; the others follow. Without it, one such member is an error.

    Raises:
        UserError: it is not an archive, is damaged, or too large; without ``refuse`` also where a member is
            refused.
        DamagedItem: ``archive`` is a member that cannot be read.
    """
    label = archive.name if isinstance(archive, Member) else str(archive)
    refuse = refuse or _refuse_all(label)
    if isinstance(archive, Path) and not archive.is_dir():
        note(archive)
    if isinstance(archive, Path) and archive.is_dir():
        for name, path in files_below(archive, refuse):
            yield file_member(name, path)
        return
    # A member is read whole, because a zip's directory is at its end and a zip's member cannot be read from there.
    with io.BytesIO(archive.read()) if isinstance(archive, Member) else open_file(archive) as file:
        found = _zip_members(file, refuse) if _is_zip(file) else _streamed_tar_members(file, refuse)
        size = file.seek(0, os.SEEK_END)
        yield from _bounded(found, label, size, refuse)


class DeepFileTree(FileTree):
    """A tree that looks into the compressed tars in folders too."""

    def opens(self, archive: Path) -> bool:
        """Always."""
        return True


class CachedFiles:
    """Files that were fetched before, looked up by path without listing the folder.

    Args:
        place: a folder or an archive.
        folder: where a compressed tar is unpacked once.

    Raises:
        UserError: there is no such folder or archive.
    """

    def __init__(self, place: Path, folder: Path) -> None:
        self._place = place.expanduser()
        self._folder = folder
        if not self._place.exists():
            raise UserError(f"'{place}': no such folder or archive")

    def find(self, name: str, suffixes: Sequence[str]) -> bytes | None:
        """Return the content of the file of this path, which may lack its suffix; None where there is none.

        Raises:
            DamagedItem: the path leads out, or the file cannot be read.
        """
        path = _safe_path(name)
        if path is None or not name.strip():
            raise DamagedItem(f"the path '{name}' leads out of the folder")
        as_it_is = [path] if PurePosixPath(path).suffix.lower() in suffixes else []
        for each in (*as_it_is, *(path + suffix for suffix in suffixes)):
            content = self._content(each)
            if content is not None:
                return content
        return None

    def _content(self, name: str) -> bytes | None:
        if not self._place.is_dir():
            return self._tree[name].read() if name in self._tree else None
        path = self._place / name
        try:
            if not path.resolve().is_relative_to(self._place.resolve()):
                raise DamagedItem(f"'{name}' {_OUT_OF_FOLDER}")
            note(path)
            return file_member(name, path).read() if path.is_file() else None
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            raise DamagedItem(f"'{name}' cannot be read ({getattr(error, 'strerror', None) or error})") from error

    @cached_property
    def _tree(self) -> FileTree:
        return FileTree([self._place], self._folder)


def decompressed(file: BufferedIOBase) -> BufferedIOBase:
    """Return a file's bytes from its beginning, decompressed if it is gzip, bzip2, xz or zstandard.

    Raises:
        UserError: it is zstandard, and zstandard is not installed.
    """
    file.seek(0)
    start = file.read(6)
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


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


@contextmanager
def _damage_reported(label: str) -> Iterator[None]:
    """Turn whatever the archive modules raise into one line."""
    try:
        yield
    except READ_ERRORS as error:
        raise UserError(f"{label}: not an archive, or a damaged one ({_words(error)}): fetch it again") from error


def _read_source(file: BufferedIOBase, path: Path) -> bytes:
    with _damage_reported(str(path)):
        return file.read(CHUNK)


def _open_noted(path: Path, stamp: Stamp, opened: Callable[[], BufferedIOBase]) -> BufferedIOBase:
    """Open a member of the archive at a path, which had this stamp when it was looked through."""
    note(path, stamp)
    return opened()


def open_file(path: Path) -> BufferedIOBase:
    """Open a file of a source. Raises UserError where it cannot be, or is a named pipe or a device."""
    try:
        return cast(Any, open_regular(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except Untrusted as error:
        raise UserError(f"{path}: {error}") from error


def _is_zip(file: BufferedIOBase) -> bool:
    """Whether a file begins like a zip; zipfile.is_zipfile also takes a tar whose last member is a zip for one."""
    file.seek(0)
    return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _kind_of(path: Path) -> Literal["zip", "tar", "compressed tar"] | None:
    with open_file(path) as file:
        if _is_zip(file):
            return "zip"
        file.seek(0)
        start = file.read(tarfile.BLOCKSIZE)
        try:
            unpacked = decompressed(file).read(tarfile.BLOCKSIZE)
            tarfile.TarInfo.frombuf(unpacked, "utf-8", "surrogateescape")
        except READ_ERRORS:
            return None
    return "tar" if unpacked == start else "compressed tar"


def files_below(folder: Path, refuse: _Refuse) -> Iterator[tuple[str, Path]]:
    """The files below a folder in order of name, with their paths in it; neither links to folders
    nor prepared sets are entered.

    Args:
        folder: where to look.
        refuse: called with the path and the reason for everything that is no file of it: links that lead out, to
            nothing or in a circle, named pipes and devices, folders that cannot be read or lie too deep.
    """
    root = os.path.realpath(folder)
    for name, path, reason in _in_order(folder, "", 1):
        if _LEFT_BY_FILE_MANAGERS.match(name):
            continue
        reason = reason or (_why_no_file(path, root) if path.is_symlink() or not path.is_file() else "")
        if reason:
            refuse(name, f"'{name}' {reason}")
        elif path.is_file():  # and no link to a folder
            yield name, path


def _why_no_file(path: Path, root: str) -> str:
    """Why a link, or what is neither a file nor a folder, is not read; nothing where it is."""
    target = os.path.realpath(path)  # of a circle of links it gives one of them; Path.resolve raises
    if path.is_symlink() and not Path(target).is_relative_to(root):
        return _OUT_OF_FOLDER
    try:
        mode = path.stat().st_mode
    except OSError:  # a circle of links among them
        return "is a link to nothing"
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "is a named pipe or a device, not a file"


def _in_order(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, Path, str]]:
    """Everything below a folder but the folders, by path, or a folder and why it is not entered."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield prefix.rstrip("/") or folder.name, folder, f"cannot be read ({error.strerror})"
        return
    for entry in found:
        if not entry.is_dir(follow_symlinks=False):
            yield prefix + entry.name, Path(entry.path), ""
        elif _is_prepared_set(Path(entry.path)):
            continue
        elif depth < MAX_DEPTH:
            yield from _in_order(Path(entry.path), f"{prefix}{entry.name}/", depth + 1)
        else:
            yield prefix + entry.name, Path(entry.path), f"lies more than {MAX_DEPTH} folders deep"


def _is_prepared_set(folder: Path) -> bool:
    """Whether a folder is a prepared set, finished or not: the one that is being made may lie in its own source."""
    return (folder / WORK).is_dir() or ((folder / MANIFEST).is_file() and (folder / LEDGER).is_file())


def file_member(name: str, path: Path) -> Member:
    """A file as a member of that name."""
    return Member(name, path.stat().st_size, cast(Any, partial(_open_regular, path)))


def _open_regular(path: Path) -> BufferedIOBase:
    note(path)
    return cast(Any, open_regular(path))


def _bounded(found: Iterator[Member], label: str, packed: int, refuse: _Refuse, prefix: str = "") -> Iterator[Member]:
    """Pass members on while their paths stay inside and their number and sizes within the bounds."""
    unpacked = 0
    with _damage_reported(label):
        for number, member in enumerate(found, 1):
            name = _safe_path(member.name)
            unpacked += member.size
            _check_bounds(label, packed, unpacked, number, member.size)
            if name is None:
                refuse(member.name, f"the path '{member.name}' {_OUT_OF_ARCHIVE}")
            elif not _LEFT_BY_FILE_MANAGERS.match(name):
                yield Member(prefix + name, member.size, member.open, member.seekable)


def _check_bounds(label: str, packed: int, unpacked: int, members: int = 1, last: int = 0) -> None:
    """Raise UserError where an archive holds too much, as far as it is known: ``last`` is its last member's size."""
    if members > MAX_MEMBERS:
        raise UserError(f"{label}: not read, because it holds more than {MAX_MEMBERS} files")
    if last > MAX_MEMBER_BYTES or unpacked > MAX_TOTAL_BYTES:
        raise UserError(f"{label}: not read, because it unpacks to {unpacked} bytes or more")
    if unpacked > max(SMALL, MAX_RATIO * packed):
        raise UserError(f"{label}: not read, because it unpacks to more than {MAX_RATIO} times its size")


def check_unpacked(packed: int, unpacked: int, ratio: int = MAX_RATIO, small: int = SMALL) -> None:
    """Raise EOFError where a compressed file of ``packed`` bytes has given too many.

    Args:
        packed: its size.
        unpacked: the bytes that have come of it.
        ratio: how many times its size is too much.
        small: bytes that never are.
    """
    if unpacked > max(small, ratio * packed):
        raise EOFError(f"it unpacks to more than {ratio} times its size")


def _zip_members(file: Path | BufferedIOBase, refuse: _Refuse) -> Iterator[Member]:
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
    member = archive.open(info)
    if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return cast(Any, member)
    return io.BufferedReader(_InSmallPieces(member))


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


def _streamed_tar_members(file: BufferedIOBase, refuse: _Refuse) -> Iterator[Member]:
    """Those of a tar, compressed or not, each to be read before the next."""
    size = file.seek(0, os.SEEK_END)
    unpacked = decompressed(file)
    stream = _Ending(unpacked, None if unpacked is file else size)
    with tarfile.open(fileobj=cast(Any, stream), mode="r|", tarinfo=_Header) as archive:
        for info in _tar_files(archive, refuse):
            yield Member(info.name, info.size, cast(Any, partial(archive.extractfile, info)), seekable=False)
    stream.check()


def _indexed_tar_members(plain: Path, refuse: _Refuse) -> Iterator[Member]:
    """Those of a tar that is not compressed, by their places in it; only the headers are read."""
    with tarfile.open(plain, "r:", tarinfo=_Header) as archive:
        for info in _tar_files(archive, refuse):
            yield Member(info.name, info.size, partial(_Slice.open, plain, info.offset_data, info.size))
        if archive.offset > plain.stat().st_size:
            raise EOFError("it ends in the middle of a file")


def _tar_files(archive: tarfile.TarFile, refuse: _Refuse) -> Iterator[tarfile.TarInfo]:
    for info in archive:
        archive.members = []  # type: ignore[attr-defined] # tarfile would keep every header
        if info.size < 0:  # it would lead back to headers that were read already
            raise tarfile.ReadError(f"'{info.name}' claims {info.size} bytes")
        if info.isdir():
            continue
        if info.issym() or info.islnk():
            refuse(info.name, f"'{info.name}' is a link, which is not followed")
        elif not info.isreg() or info.issparse():
            refuse(info.name, f"'{info.name}' is a device, which is not followed")
        else:
            yield info


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


def _safe_path(name: str) -> str | None:
    """A member's path with forward slashes and without ``./``; None where it is absolute, climbs out, or is empty."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or not path.name or ".." in path.parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        return None
    return path.as_posix()


def _refuse_all(label: str) -> _Refuse:
    """What makes the first refused member an error, with advice."""

    def refuse(_: str, reason: str) -> None:
        advice = "unpack the archive and give its folder"
        if reason.endswith(_OUT_OF_ARCHIVE):
            advice = "do not trust it"
        elif reason.endswith(_OUT_OF_FOLDER):
            advice = "put the file itself in its place"
        raise UserError(f"{label}: {reason}: {advice}")

    return refuse
