"""Make something to learn from: noisy sine, square, ramp and flat runs, and tables that name their kinds.

python waves.py FOLDER [RUNS]
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

READINGS = 128
KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sine": lambda phase: np.sin(2 * np.pi * phase),
    "square": lambda phase: np.sign(np.sin(2 * np.pi * phase)),
    "ramp": lambda phase: 2 * (phase % 1) - 1,
    "flat": lambda phase: 0 * phase,
}


def wave(kind: str, rng: np.random.Generator) -> np.ndarray:
    """One run (READINGS,) of a kind: 2 to 6 periods from anywhere, with noise."""
    phase = np.linspace(0, rng.uniform(2, 6), READINGS) + rng.random()
    return KINDS[kind](phase) + 0.1 * rng.standard_normal(READINGS)


def write_runs(folder: Path, runs: int, seed: int = 0) -> None:
    """Write ``runs`` files into ``folder/runs``, and ``folder/runs.csv``: file, kind and split of each."""
    rng = np.random.default_rng(seed)
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    with (folder / "runs.csv").open("w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["file", "kind", "split"])
        for number in range(runs):
            kind = list(KINDS)[number % len(KINDS)]
            np.savetxt(folder / "runs" / f"{number:04}.csv", wave(kind, rng), fmt="%.4f")
            rows.writerow([f"runs/{number:04}.csv", kind, "test" if number % 5 == 0 else "train"])


if __name__ == "__main__":
    write_runs(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 400)
