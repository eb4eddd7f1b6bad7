"""The files of a source wherever they lie: folders, zips, tars, compressed tars and single files read alike, by path.

Nothing is ever extracted. Links, devices, encrypted members and paths that lead out of an archive are refused, each
with a reason, and the number and sizes of members are bounded before memory or disk space is spent on them.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.files import CHUNK, disk_errors, make_folder, replace_path
from skillnet_cli.sources.bounds import check_archive
from skillnet_cli.sources.compression import decompressed
from skillnet_cli.sources.folders import LEFT_BY_FILE_MANAGERS, OUT_OF_FOLDER, files_below
from skillnet_cli.sources.inputs import Stamp, note, stamp_of
from skillnet_cli.sources.members import READ_ERRORS, Member, Refuse, damage_reported, file_member, open_file
from skillnet_cli.sources.tars import indexed_tar_members, streamed_tar_members
from skillnet_cli.sources.zips import is_zip, zip_members

_COMPRESSED_TAR = re.compile(r".*\.(tar\.(gz|bz2|xz|zst)|tgz|tbz2?|txz|tzst)\Z", re.IGNORECASE)
_NAMED_ARCHIVE = re.compile(r".*\.(zip|tar|tar\.\w+|tgz|tbz2?|txz|tzst)\Z", re.IGNORECASE)
_OUT_OF_ARCHIVE = "leads out of the archive"


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
            found = zip_members(path, self._refuse)
        elif kind is not None:
            plain = self._unpacked(path, stamp) if kind == "compressed tar" else path
            found = indexed_tar_members(plain, self._refuse)
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
                        check_archive(str(path), packed_size, size)
                        file.write(piece)
                replace_path(plain, part)
        finally:
            part.unlink(missing_ok=True)
        return plain


def read_archive(archive: Path | Member, refuse: Refuse | None = None) -> Iterator[Member]:
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
        found = zip_members(file, refuse) if is_zip(file) else streamed_tar_members(file, refuse)
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
                raise DamagedItem(f"'{name}' {OUT_OF_FOLDER}")
            note(path)
            return file_member(name, path).read() if path.is_file() else None
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            raise DamagedItem(f"'{name}' cannot be read ({getattr(error, 'strerror', None) or error})") from error

    @cached_property
    def _tree(self) -> FileTree:
        return FileTree([self._place], self._folder)


def _read_source(file: BufferedIOBase, path: Path) -> bytes:
    with damage_reported(str(path)):
        return file.read(CHUNK)


def _open_noted(path: Path, stamp: Stamp, opened: Callable[[], BufferedIOBase]) -> BufferedIOBase:
    """Open a member of the archive at a path, which had this stamp when it was looked through."""
    note(path, stamp)
    return opened()


def _kind_of(path: Path) -> Literal["zip", "tar", "compressed tar"] | None:
    with open_file(path) as file:
        if is_zip(file):
            return "zip"
        file.seek(0)
        start = file.read(tarfile.BLOCKSIZE)
        try:
            unpacked = decompressed(file).read(tarfile.BLOCKSIZE)
            tarfile.TarInfo.frombuf(unpacked, "utf-8", "surrogateescape")
        except READ_ERRORS:
            return None
    return "tar" if unpacked == start else "compressed tar"


def _bounded(found: Iterator[Member], label: str, packed: int, refuse: Refuse, prefix: str = "") -> Iterator[Member]:
    """Pass members on while their paths stay inside and their number and sizes within the bounds."""
    unpacked = 0
    with damage_reported(label):
        for number, member in enumerate(found, 1):
            name = _safe_path(member.name)
            unpacked += member.size
            check_archive(label, packed, unpacked, number, member.size)
            if name is None:
                refuse(member.name, f"the path '{member.name}' {_OUT_OF_ARCHIVE}")
            elif not LEFT_BY_FILE_MANAGERS.match(name):
                yield Member(prefix + name, member.size, member.open, member.seekable)


def _safe_path(name: str) -> str | None:
    """A member's path with forward slashes and without ``./``; None where it is absolute, climbs out, or is empty."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or not path.name or ".." in path.parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        return None
    return path.as_posix()


def _refuse_all(label: str) -> Refuse:
    """What makes the first refused member an error, with advice."""

    def refuse(_: str, reason: str) -> None:
        advice = "unpack the archive and give its folder"
        if reason.endswith(_OUT_OF_ARCHIVE):
            advice = "do not trust it"
        elif reason.endswith(OUT_OF_FOLDER):
            advice = "put the file itself in its place"
        raise UserError(f"{label}: {reason}: {advice}")

    return refuse
