"""A process and all that it has started, found and killed together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path


def kill_all(pid: int) -> None:
    """SIGKILL a process and everything that it started, itself first, so that it cannot start them again."""
    for each in [pid, *_descendants(pid, dict(_parents()))]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def _descendants(pid: int, parents: dict[int, int]) -> Iterator[int]:
    for child in [child for child, parent in parents.items() if parent == pid]:
        yield child
        yield from _descendants(child, parents)


def _parents() -> Iterator[tuple[int, int]]:
    """(process, its parent) of all processes of the machine."""
    folders = list(Path("/proc").glob("[0-9]*"))
    if not folders:
        printed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        for line in printed.splitlines():
            pid, parent = map(int, line.split())
            yield pid, parent
    for folder in folders:
        try:
            yield int(folder.name), int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
