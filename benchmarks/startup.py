"""CPU time until the command line answers, against the least that any typer program costs.

    python benchmarks/startup.py [--json]

Each command runs in turn, several rounds; what counts is the median of user and system time, which other programs
on the machine disturb less than the wall clock does.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 15
LIMIT_SECONDS = 0.2
SKILLNET = str(Path(sys.executable).with_name("skillnet"))
COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "typer": [sys.executable, "-c", "import typer"],
    "help": [SKILLNET, "--help"],
    "plugins": [SKILLNET, "plugins"],
    "torch": [sys.executable, "-c", "import torch"],
}


def cpu_seconds(command: list[str]) -> float:
    """User and system seconds of one run, its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure() -> dict[str, float]:
    """Median seconds of each command over all rounds; the commands take turns."""
    rounds = [{name: cpu_seconds(command) for name, command in COMMANDS.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(seconds[name] for seconds in rounds) for name in COMMANDS}


def main() -> int:
    """Print the medians; exit code 1 where ``skillnet --help`` takes longer than its limit."""
    medians = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(medians, indent=2))
    else:
        for name, seconds in medians.items():
            command = " ".join(Path(word).name if "/" in word else word for word in COMMANDS[name])
            print(f"{command:28} {seconds:6.3f} s   {seconds / medians['typer']:5.2f} × import typer")
    return int(medians["help"] > LIMIT_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
