"""Preparing a set in processes that are killed at random moments, and at last in one that is not."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PATIENCE = 60.0


def killed_and_resumed(
    command: Sequence[str], out: Path, kills: int, longest: float, environment: Mapping[str, str] | None = None
) -> None:
    """Kill ``command`` so many times while it prepares ``out``, each within ``longest`` seconds, then let it end.

    How fast a machine is decides nothing: a process that ends before its kill starts again from nothing, and the
    next ones are given less time.
    """
    draw = random.Random(kills)
    while kills:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait_for_work(out, process)
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


def _wait_for_work(out: Path, process: subprocess.Popen[bytes]) -> None:
    """Starting an interpreter takes as long as the machine likes."""
    until = time.monotonic() + PATIENCE
    while not (out / ".work" / "plan.json").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
