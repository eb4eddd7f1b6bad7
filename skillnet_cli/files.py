"""The one way to write: files and folders that have their name only when they are complete; checksums; locks.

Whatever is cut off, by a signal, a full disk or a power failure, leaves the old content under the name or the new one,
never half of it. That takes three steps in this order: have the content on the disk, rename, have the name on the disk.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.pace import advanced

PARTIAL = ".partial"
"""The end of the name under which something is written until it is complete."""

CHUNK = 1 << 20
"""Bytes that are read at a time: enough for the disk's full speed, few enough for any memory."""


class AtomicFile:
    """A file written under ``PATH.partial`` that becomes ``PATH`` when finished, on the disk and not before.

    Every method raises FailedJob where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._finished = False
        self._partial = path.with_name(path.name + PARTIAL)
        self._digest = hashlib.sha256()
        with disk_errors(path):
            self._file: BinaryIO = self._partial.open("wb")

    def write(self, content: bytes) -> None:
        """Append."""
        with disk_errors(self.path):
            self._file.write(content)
        self._digest.update(content)
        self.size += len(content)

    def finish(self) -> str:
        """Give the file its name and return its sha256."""
        with disk_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self.path)
            self._finished = True
            sync(self.path.parent)
        return self._digest.hexdigest()

    def close(self) -> None:
        """Stop writing; what is not finished is deleted, since nobody goes on with it."""
        with suppress(OSError):  # a full disk has been reported already
            self._file.close()
        if not self._finished:
            with suppress(OSError):
                self._partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> str:
    """Write a small file as :class:`AtomicFile` does, and return its sha256; nothing stays where that is cut off."""
    file = AtomicFile(path)
    try:
        file.write(content)
        return file.finish()
    finally:
        file.close()


def write_json(path: Path, document: Any) -> None:
    """Write a document as JSON for people to read, in the order that it has, as :class:`AtomicFile` does.

    Numbers that are not finite become null, and half of a character, which UTF-8 has no bytes for, a question mark.
    """
    text = json.dumps(finite(document), ensure_ascii=False, indent=1, allow_nan=False)
    write_whole(path, f"{text}\n".encode("utf-8", errors="replace"))


def finite(document: Any) -> Any:
    """A document of JSON in which null stands for every number that is not finite: JSON has no word for such."""
    if isinstance(document, dict):
        return {key: finite(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def replace_path(path: Path, fresh: Path) -> None:
    """Put a finished file or folder, ``fresh``, where ``path`` is, and delete what was there.

    On Linux the two exchange their names, so that ``path`` is never absent; other systems cannot do that with folders,
    and ``path`` is absent for a moment.

    Raises:
        OSError: the disk does not take it; ``path`` is as it was, or set aside beside ``fresh`` with the suffix
            ``.old``.
    """
    _sync_tree(fresh)
    old = fresh
    if not os.path.lexists(path) or not (path.is_dir() or fresh.is_dir()):
        fresh.replace(path)
    elif not _exchange(path, fresh):
        old = fresh.with_name(f"{fresh.name}.old")
        path.replace(old)  # a folder that is not empty cannot be replaced by a rename
        fresh.replace(path)
    sync(path.parent)
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step. False where the system or the file system cannot: NFS and overlays, for example."""
    if sys.platform != "linux":
        return False
    import ctypes

    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # glibc has it since 2.28
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of linux/fcntl.h and linux/fs.h
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _sync_tree(path: Path) -> None:
    """Have a file, or all that a folder holds, on the disk."""
    for folder, _, files in os.walk(path):
        for name in files:
            sync(Path(folder, name))
        sync(Path(folder))
    if path.is_file():
        sync(path)


def sync(path: Path) -> None:
    """Have the content of a file, or the names in a folder, on the disk."""
    if sys.platform == "win32" and path.is_dir():
        return  # Windows opens no folders, and has a name on the disk when it has the file
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(handle)
        advanced()
    finally:
        os.close(handle)


def read_at(handle: int, count: int, start: int) -> bytes:
    """At most ``count`` bytes of an open file from ``start`` on; threads may share the handle, and move no position."""
    if hasattr(os, "pread"):
        return os.pread(handle, count, start)
    with _SEEKING:  # Windows reads from a position alone, which all threads share
        os.lseek(handle, start, os.SEEK_SET)
        return os.read(handle, count)


_SEEKING = threading.Lock()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raises FailedJob, naming the path, where the disk does not take what is written there."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise FailedJob(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error


def make_folder(folder: Path, advice: str) -> None:
    """Make a folder and those above it. Raises UserError with the advice where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}): {advice}") from error


def sha256_of(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    return digest_of(path, "sha256")


def digest_of(path: Path, kind: str) -> str:
    """A checksum of a file, read in pieces; ``kind`` is one of hashlib's names."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advanced()
    return digest.hexdigest()


@contextmanager
def file_lock(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the lock file, and keep others waiting."""
    from filelock import FileLock

    with FileLock(lock):
        yield


@contextmanager
def only_one(lock: Path, busy: str) -> Iterator[None]:
    """Hold the lock file, without waiting for it.

    Args:
        lock: the lock file; it is let go when its process ends, whatever ends it.
        busy: what to say where another process holds it.

    Raises:
        UserError: another process holds it, or its folder cannot be written.
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock)
    try:
        held.acquire(blocking=False)
    except Timeout as error:
        raise UserError(busy) from error
    except OSError as error:
        raise UserError(f"{lock.parent} cannot be written ({error.strerror}): name another folder") from error
    try:
        yield
    finally:
        held.release()
