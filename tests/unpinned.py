"""Installs the wheels as a stranger would, the newest versions of everything, and runs the demo's commands in small.

    python tests/unpinned.py            (or: make unpinned)

No constraints and no index but the default one: what the metadata allow is what is tried. The demo's own list of
commands is run on a few items and steps; nothing is measured. It takes some minutes and 6 GB of disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import demo

ITEMS = 48
BATCH = 8
STEPS = 13
"""A block of the recipe's ratios: an update, at least, of every task."""

FOLDERS = [ROOT, *sorted((ROOT / "plugins").glob("skillnet-*"))]


def run(command: Sequence[str | Path], folder: Path) -> None:
    """Run a command to its end, shown as it is typed; its failure ends the program."""
    print("$", " ".join(map(str, command)), flush=True)
    subprocess.run(list(map(str, command)), cwd=folder, check=True)


def install(folder: Path) -> Path:
    """Build the wheels, install them unpinned; returns the environment's folder of programs."""
    uv = Path(sys.executable).with_name("uv")
    for project in FOLDERS:
        run([uv, "build", "--wheel", "--quiet", "--out-dir", folder / "wheels", project], folder)
    run([sys.executable, "-m", "venv", folder / "environment"], folder)
    programs = folder / "environment" / "bin"
    wheels = ["--find-links", folder / "wheels", "--compile-bytecode"]
    run([uv, "pip", "install", "--quiet", "--python", programs / "python", *wheels, "skillnet-cli[all]"], folder)
    run([uv, "pip", "list", "--quiet", "--python", programs / "python"], folder)
    return programs


def commands() -> list[list[str]]:
    """The demo's commands, on a few items and steps."""
    stages = {
        stage: ["--set", f"{stage}.steps={STEPS}", "--set", f"{stage}.warmup=1"] for stage in ("pretrain", "finetune")
    }
    tasks = {
        "pretrain": ("mlm", "units", "image-text", "video-text", "code-mlm"),
        "finetune": tuple(demo.EVALUATIONS),
    }
    found = [["prepare", "demo", "--limit", str(ITEMS)]]
    found += [list(step.words) for step in demo.PREPARATION if step.name != "prepare"]
    for stage, small in stages.items():
        batches = [word for task in tasks[stage] for word in ("--set", f"{stage}.tasks.{task}.batch={BATCH}")]
        found.append([stage, "demo", *small, *batches])
    found += [["eval", "--task", task, "--split", places[0]] for task, places in demo.EVALUATIONS.items()]
    found.append(["embed", *demo.SEARCHABLE, "--to", str(demo.COLLECTION)])
    found.append(["search", demo.QUERY, "--in", str(demo.COLLECTION), "--json"])
    found.append(["transcribe", str(demo.RECORDING)])
    found.append(["classify", "东西很好"])
    found.append(["report", str(demo.RUN)])
    return found


def main() -> None:
    """Install, then run; the first command that fails ends it with a traceback that names the command."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        skillnet = install(folder) / "skillnet"
        os.chdir(folder)  # where the demo's paths begin
        for words in commands():
            if words[0] == "transcribe":
                demo.unpack_recording()
            run([skillnet, *words], folder)
    print("the demo's commands run with the newest versions")


if __name__ == "__main__":
    main()
