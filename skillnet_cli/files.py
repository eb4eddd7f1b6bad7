"""Files and folders that take their name only when they are complete, and checksums."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from skillnet_cli.api import FailedJob, UserError

PARTIAL = ".partial"
CHUNK = 1 << 20


class AtomicFile:
    """A file written under ``PATH.partial`` that becomes ``PATH`` when finished, on the disk and not before.

    Every method raises FailedJob where the disk does not take it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._partial = partial_path(path)
        self._digest = hashlib.sha256()
        with disk(path):
            self._file: BinaryIO = open(self._partial, "wb")  # noqa: SIM115 - finish() or close() closes it

    def write(self, content: bytes) -> None:
        """Append."""
        with disk(self.path):
            self._file.write(content)
        self._digest.update(content)
        self.size += len(content)

    def finish(self) -> str:
        """Give the file its name and return its sha256."""
        with disk(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._partial, self.path)
        return self._digest.hexdigest()

    def close(self) -> None:
        """Stop writing; what is there keeps the name of a partial file."""
        with suppress(OSError):  # a full disk has been reported already
            self._file.close()


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Raises FailedJob, naming the path, where the disk does not take what is written."""
    try:
        yield
    except OSError as error:
        raise FailedJob(f"{path} cannot be written: {error.strerror}") from error


def make_folder(folder: Path, advice: str) -> None:
    """Make a folder and those above it. Raises UserError with the advice where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}): {advice}") from error


def write_whole(path: Path, content: bytes) -> str:
    """Write a small file at once, as :class:`AtomicFile` does; returns its sha256."""
    file = AtomicFile(path)
    file.write(content)
    return file.finish()


def partial_path(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return path.with_name(path.name + PARTIAL)


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    return digest_of(path, "sha256")


def digest_of(path: Path, kind: str) -> str:
    """A checksum of a file, read in pieces; ``kind`` is a name of hashlib's."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the lock file, and keep others waiting."""
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
