"""Preparing a set in processes that are killed at random moments, and at last in one that is not."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from skillnet_cli.data.format import WORK
from skillnet_cli.prepare.workdir import PLAN

PATIENCE = 60.0
SHORTEST = 0.001
"""Seconds."""

State: TypeAlias = dict[str, int]


def killed_and_resumed(
    command: Sequence[str], out: Path, kills: int, longest: float, environment: Mapping[str, str] | None = None
) -> None:
    """Kill ``command`` so many times while it prepares ``out``, each within ``longest`` seconds, then let it end.

    How fast a machine is decides nothing: the time counts from when a process is at work, and one that ends before its
    kill starts again from nothing, the next ones being given less time.
    """
    draw = random.Random(kills)
    while kills:
        assert longest > SHORTEST, f"{command} ends too soon to be killed"
        before = _state_of(out)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait_for_work(out, before, process)
        time.sleep(draw.uniform(0, longest))
        if process.poll() is None:
            kills -= 1
        else:
            assert process.returncode == 0, f"{command} fails by itself"
            longest /= 2
            shutil.rmtree(out)
        process.kill()
        process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _wait_for_work(out: Path, before: State, process: subprocess.Popen[bytes]) -> None:
    """Until a plan is there and this process has touched the work folder: starting an interpreter takes a while."""
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        if (out / WORK / PLAN).exists() and _state_of(out) != before:
            return
        time.sleep(0.005)


def _state_of(out: Path) -> State:
    """The files of the work folder and when each was last written."""
    try:
        return {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(out / WORK)}
    except FileNotFoundError:  # it goes when the set is ready, also while it is looked at
        return {}
