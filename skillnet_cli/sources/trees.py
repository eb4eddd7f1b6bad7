"""A tree of files, wherever it lies: folders, zips, tars, compressed tars and single files read alike, by path."""

from __future__ import annotations

import fnmatch
import functools
import io
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any, cast

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.files import CHUNK, disk_errors, make_folder, replace_path
from skillnet_cli.sources.archives import (
    BROKEN,
    LEADS_OUT,
    Bound,
    Header,
    Limits,
    Member,
    Refusal,
    decompressed,
    inside,
    is_noise,
    members,
    why_refused,
    zip_name,
)

_ARCHIVES = (".zip", ".tar")
"""What is looked into where it lies in a folder; a compressed tar is a file there, see :meth:`Tree.members`."""
_NAMED_ARCHIVE = re.compile(r".*\.(zip|tar|tar\.\w+|tgz|tbz2?|txz|tzst)\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Leaf:
    """A file of a tree: its path with forward slashes, its size in bytes, and how it is opened.

    ``seekable`` says whether any place of it is reached without reading what is before it.
    """

    name: str
    size: int
    open: Callable[[], BufferedIOBase]
    seekable: bool = True

    def read(self) -> bytes:
        """Its content. Raises DamagedItem where it cannot be read."""
        return _guarded(self.name, self._read)

    def _read(self) -> bytes:
        with self.open() as file:
            content = file.read()
        if len(content) != self.size:
            raise EOFError(f"{len(content)} of {self.size} bytes are there")
        return content


class Tree:
    """The files of one or several sources, in order: by name in a folder, as they lie in an archive.

    A source is a folder, an archive or a single file. Zips and tars that lie in a folder are looked into, and the path
    of such an archive is the beginning of their files' paths. A compressed tar is unpacked once, into a plain tar in
    ``folder``, because nothing can be read from the middle of it. An archive in an archive is a file of the tree;
    :meth:`members` walks through it.

    Nothing is ever extracted. Links, devices and members whose paths lead out are not files of the tree; ``refused``
    lists them.

    Args:
        sources: local paths.
        folder: where compressed tars are unpacked.
        limits: bounds on the members of each archive.

    Raises (when the tree is first looked at):
        UserError: a source is no archive, is damaged as a whole, or goes beyond the limits.
    """

    def __init__(self, sources: Sequence[Path], folder: Path, limits: Limits | None = None) -> None:
        self._sources = tuple(sources)
        self._folder = folder
        self._limits = limits or Limits()
        self._refusals: list[Refusal] = []
        self._within: list[Refusal] = []

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """All files in order."""
        return tuple(leaf for source in self._sources for leaf in self._walk(source))

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Path and reason of what the sources hold and is not read."""
        return [(each.name, str(each)) for each in self._refusals if self.leaves is not None]

    def take_refused_within(self) -> list[tuple[str, str]]:
        """The same of archives in archives, as far as :meth:`members` came across them since this was last asked."""
        found, self._within = self._within, []
        return [(f"{each.archive}/{each.name}", str(each)) for each in found]

    @cached_property
    def _by_name(self) -> dict[str, Leaf]:
        return {leaf.name: leaf for leaf in reversed(self.leaves)}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Leaf:
        """A file by its path. Raises DamagedItem where there is none."""
        try:
            return self._by_name[name]
        except KeyError:
            raise DamagedItem(f"there is no file '{name}'") from None

    def named(self, *patterns: str) -> list[Leaf]:
        """The files whose path, or the end of it after a slash, fits one of the patterns (``*`` also fits slashes)."""
        return [leaf for leaf in self.leaves if any(_fits(leaf.name, pattern) for pattern in patterns)]

    def one(self, *patterns: str) -> Leaf:
        """The first file that fits. Raises UserError naming what is looked for where none does."""
        for leaf in self.named(*patterns):
            return leaf
        where = ", ".join(map(str, self._sources)) or "no source"
        raise UserError(f"{where}: there is no {' or '.join(patterns)} in it: check --source")

    def members(self, leaf: Leaf) -> Iterator[Member]:
        """The files of an archive in the tree, in its order, each to be read before the next one is asked for.

        Raises:
            DamagedItem: it is none, breaks off, or goes beyond the limits; what came before is sound.
        """
        member = Member(leaf.name, leaf.size, leaf.read)
        try:
            yield from members(member, self._limits, lambda refusal: self._within.append(refusal))
        except UserError as error:
            raise DamagedItem(str(error)) from error

    def _walk(self, source: Path) -> Iterator[Leaf]:
        if not source.is_dir():
            yield from self._of_file(source, "")
            return
        root = source.resolve()
        for path in _in_order(source):
            name = path.relative_to(source).as_posix()
            if is_noise(name):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                self._refusals.append(Refusal(str(source), name, "is a link that leads out of the folder"))
            elif path.suffix.lower() in _ARCHIVES:
                yield from self._of_file(path, f"{name}/")
            elif path.is_file():
                yield Leaf(name, path.stat().st_size, functools.partial(_open, path))

    def _of_file(self, path: Path, prefix: str) -> Iterator[Leaf]:
        start, packed = _beginning(path)
        if zipfile.is_zipfile(path):
            yield from self._bounded(path, prefix, _of_zip(path, self._refusals.append))
        elif _is_tar(start):
            plain = self._unpacked(path) if packed else path
            yield from self._bounded(path, prefix, _of_tar(plain, path, self._refusals.append))
        elif _NAMED_ARCHIVE.match(path.name):
            raise UserError(f"{path}: not an archive, or a damaged one: fetch it again")
        else:
            yield Leaf(prefix.rstrip("/") or path.name, path.stat().st_size, functools.partial(_open, path))

    def _bounded(self, path: Path, prefix: str, found: Iterator[Leaf]) -> Iterator[Leaf]:
        bound = Bound(str(path), path.stat().st_size, self._limits)
        try:
            for leaf in found:
                name = inside(leaf.name)
                if name is None:
                    self._refusals.append(Refusal(str(path), leaf.name, LEADS_OUT))
                    continue
                bound.count(name, leaf.size)
                if not is_noise(name):
                    yield Leaf(prefix + name, leaf.size, leaf.open, leaf.seekable)
        except BROKEN as error:
            raise UserError(f"{path}: damaged ({error or type(error).__name__}): fetch it again") from error

    def _unpacked(self, path: Path) -> Path:
        """A compressed tar as a plain one, made once. It is whole when it has its name."""
        stat = path.stat()
        plain = self._folder / f"{path.name}-{stat.st_size}.tar"
        if plain.exists():
            return plain
        make_folder(self._folder, "name another folder with --out")
        partial = plain.with_name(f"{plain.name}.{os.getpid()}")
        bound = Bound(str(path), stat.st_size, self._limits)
        with disk_errors(plain):
            with open(path, "rb") as packed, open(partial, "wb") as file:
                unpacked = decompressed(packed)
                while piece := _guarded_source(path, lambda: unpacked.read(CHUNK)):
                    bound.members = 0
                    bound.count(path.name, len(piece))
                    file.write(piece)
            replace_path(plain, partial)
        return plain


def _beginning(path: Path) -> tuple[bytes, bool]:
    """The first block of what a file unpacks to, and whether it is compressed; nothing where it cannot be unpacked."""
    try:
        with open(path, "rb") as file:
            plain = file.read(tarfile.BLOCKSIZE)
            try:
                start = decompressed(file).read(tarfile.BLOCKSIZE)
            except BROKEN:
                start = b""
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return start, start != plain


def _in_order(folder: Path) -> Iterator[Path]:
    """The files below a folder in order of name; links to folders are not entered."""
    with os.scandir(folder) as entries:
        there = sorted(entries, key=lambda entry: entry.name)
    for entry in there:
        if entry.is_dir(follow_symlinks=False):
            yield from _in_order(Path(entry.path))
        else:
            yield Path(entry.path)


def _open(path: Path) -> BufferedIOBase:
    return open(path, "rb")  # noqa: SIM115 - whoever opens a leaf closes it


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BufferedIOBase:
    return cast(BufferedIOBase, archive.open(info))


def _of_zip(path: Path, refuse: Callable[[Refusal], None]) -> Iterator[Leaf]:
    archive = zipfile.ZipFile(path)  # it stays open as long as its leaves
    for info in archive.infolist():
        if info.is_dir():
            continue
        if why := why_refused(info):
            refuse(Refusal(str(path), zip_name(info), why))
        else:
            yield Leaf(zip_name(info), info.file_size, functools.partial(_open_member, archive, info), seekable=False)


def _of_tar(plain: Path, path: Path, refuse: Callable[[Refusal], None]) -> Iterator[Leaf]:
    with tarfile.open(plain, "r:", tarinfo=Header) as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined] # tarfile would keep every header
            if info.isdir():
                continue
            if why := why_refused(info):
                refuse(Refusal(str(path), info.name, why))
                continue
            start, size = info.offset_data, info.size
            yield Leaf(info.name, size, functools.partial(_Slice.open, plain, start, size))
            end = start + size
        if archive.offset > plain.stat().st_size:
            raise EOFError(f"it breaks off in '{info.name}', which ends at byte {end}")


class _Slice(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._handle = os.open(path, os.O_RDONLY)
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

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        piece = os.pread(self._handle, wanted, self._start + self._at)
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            os.close(self._handle)
        super().close()


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"*/{pattern}")


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _guarded(name: str, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except BROKEN as error:
        raise DamagedItem(f"'{name}' cannot be read ({error or type(error).__name__})") from error


def _guarded_source(path: Path, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except BROKEN as error:
        raise UserError(f"{path}: damaged ({error or type(error).__name__}): fetch it again") from error


class Shelf:
    """Looks files up without listing the folder.

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
        """The content of the file of this path, which may lack its suffix; None where there is none.

        Raises:
            DamagedItem: the path leads out, or the file cannot be read.
        """
        path = inside(name)
        if path is None or not name.strip():
            raise DamagedItem(f"the path '{name}' leads out of the folder")
        whole = [path] if PurePosixPath(path).suffix.lower() in suffixes else []
        for each in (*whole, *(path + suffix for suffix in suffixes)):
            content = self._content(each)
            if content is not None:
                return content
        return None

    def _content(self, name: str) -> bytes | None:
        if not self._place.is_dir():
            leaf = self._leaves.get(name)
            return leaf.read() if leaf else None
        path = self._place / name
        try:
            if not path.resolve().is_relative_to(self._place.resolve()):
                raise DamagedItem(f"'{name}' is a link that leads out of the folder")
            return path.read_bytes() if path.is_file() else None
        except (OSError, ValueError) as error:
            raise DamagedItem(f"'{name}' cannot be read ({getattr(error, 'strerror', None) or error})") from error

    @cached_property
    def _leaves(self) -> dict[str, Leaf]:
        return {leaf.name: leaf for leaf in Tree([self._place], self._folder).leaves}
