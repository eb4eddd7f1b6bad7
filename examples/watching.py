"""How long a command takes and how much memory it and all its children hold at once."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Watched:
    """What a finished command was seen to need; ``peak_bytes`` is 0 where the system has no /proc."""

    output: str
    seconds: float
    peak_bytes: int


def run_watched(command: Sequence[str], *, capture: bool = False) -> Watched:
    """Run a command to its end; its messages and progress bars go through, its standard output if not captured.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE if capture else None, text=True) as process:
        watch = PeakMemory(process.pid)
        watch.start()
        output, _ = process.communicate()
        watch.stop()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return Watched(output or "", time.monotonic() - start, watch.peak)


class PeakMemory(threading.Thread):
    """Looks at a process and its descendants twice a second and keeps the greatest sum of their memory."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root = root
        self.peak = 0
        self._done = threading.Event()

    def run(self) -> None:
        """Look until :meth:`stop` is called."""
        while not self._done.wait(SECONDS_BETWEEN_LOOKS):
            self.peak = max(self.peak, sum(map(_held_bytes, _family(self.root))))

    def stop(self) -> None:
        """Stop looking."""
        self._done.set()
        self.join()


def _family(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(after_name[1]), []).append(int(folder.name))
    family = [root]
    for pid in family:
        family.extend(children.get(pid, []))
    return family


def _held_bytes(pid: int) -> int:
    """Memory that a process holds; of what it shares with others, its share."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
