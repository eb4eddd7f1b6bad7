"""Hostile inputs through every command that reads files: a line and an exit code, soon, in bounded memory.

``make soak`` takes 2,000. One that fails is repeated by its kind and number, as the message has them:
``python -m tests.cases.hostile FOLDER --only "KIND:NUMBER"``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import typer

from skillnet_cli.cli.app import app
from tests.cases.altering import counts
from tests.cases.hostile_world import KINDS

ROOT = Path(__file__).parents[2]
READS_NO_FILE = {"plugins", "recipes list"}


def leaves(command: Any, name: str = "") -> set[str]:
    """The commands of a group, all the way down."""
    below = getattr(command, "commands", None)
    if below is None:
        return {name}
    return {leaf for each, group in below.items() for leaf in leaves(group, f"{name} {each}".strip())}


def verb(words: str, verbs: set[str]) -> str:
    """Which command a line is of; a data set's own is ``prepare``."""
    first, second, *_ = (*words.split(), "")
    return f"{first} {second}" if f"{first} {second}" in verbs else first


def test_s04_every_command_that_reads_files_is_tried() -> None:
    verbs = leaves(typer.main.get_command(app)) - READS_NO_FILE
    tried = {verb(words, verbs) for kind in KINDS.values() for words in kind.commands}
    assert {each for each in verbs if not each.startswith("prepare ")} <= tried
    assert {"prepare", "prepare table", "prepare vocab", "prepare merge"} <= tried


@pytest.mark.parametrize("count", counts(len(KINDS), 2_000))
def test_s04_hostile_inputs_through_every_command(count: int, tmp_path: Path) -> None:
    jobs = str(min(os.cpu_count() or 1, 2))
    words = [
        sys.executable,
        "-m",
        "tests.cases.hostile",
        str(tmp_path / "worlds"),
        "--count",
        str(count),
        "--jobs",
        jobs,
    ]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == count
    print(account(outcomes))
    wrong = [
        f"{each['kind']}:{each['number']} ({each['words']}; {each['fault']}): {each['wrong']}\n{each['said']}"
        for each in outcomes
        if each["wrong"]
    ]
    assert not wrong, "\n".join(wrong)


ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUTF8": "1"}


def account(outcomes: list[dict[str, Any]]) -> str:
    """How many inputs each command had, how they ended, and what was slowest and largest."""
    verbs = leaves(typer.main.get_command(app))
    tried = Counter(verb(each["words"], verbs) for each in outcomes)
    codes = Counter(each["code"] for each in outcomes)
    slowest = max(outcomes, key=lambda each: each["seconds"])
    largest = max(outcomes, key=lambda each: each["bytes"])
    lines = [
        f"{len(outcomes)} inputs: " + ", ".join(f"{number} × exit {code}" for code, number in sorted(codes.items()))
    ]
    lines += [f"{name}: {number}" for name, number in tried.most_common()]
    lines += [f"slowest: {slowest['seconds']:.1f} s of computing ({slowest['kind']}:{slowest['number']})"]
    lines += [f"largest: {largest['bytes'] / 1e9:.2f} GB ({largest['kind']}:{largest['number']})"]
    return "\n".join(lines)
