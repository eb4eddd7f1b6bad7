"""The command line as a process: quick to answer, free of torch until a verb needs it, completing words."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from skillnet_cli.cli.app import app
from tests.inference.world import World

HEAVY = {"torch", "transformers", "numpy", "rich", "lancedb"}


def skillnet(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-m", "skillnet_cli", *words]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False)


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    return {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize("words", [["--help"], ["prepare", "--help"], ["eval", "--help"], ["plugins"]], ids=" ".join)
def test_help_and_plugins_import_nothing_heavy(world: World, words: list[str]) -> None:
    done = skillnet(*words)
    assert done.returncode == 0 and done.stdout
    assert imported(done) & HEAVY == set()
    assert "skillnet_cli.cli.app" in imported(done)


def test_a_mistake_needs_no_torch_and_leaves_code_2(world: World) -> None:
    done = skillnet("prepare", "pears")
    assert done.returncode == 2 and "did you mean 'pairs'?" in done.stderr and "Traceback" not in done.stderr
    assert imported(done) & HEAVY == set()


def test_no_words_are_a_call_for_help(world: World) -> None:
    assert "Usage: skillnet" in skillnet().stdout


@pytest.mark.parametrize("verb", [command.name for command in app.registered_commands])
def test_every_verb_has_an_example_and_explains_its_options(world: World, verb: str) -> None:
    help_, _ = world.skillnet(*verb.split(), "--help")
    assert re.search(rf"Examples?:\n +skillnet {verb}", help_)
    options = [line for line in help_.splitlines() if re.match(r"  (--|PATH|FILE|RECIPE|TEXT|TABLE)", line)]
    assert options


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("skillnet tr", {"transcribe"}),
        ("skillnet prepare pa", {"pairs"}),
        ("skillnet eval --task f", {"fill", "find"}),
        ("skillnet search x --sk", {"--skill"}),
        ("skillnet prepare table --spl", {"--split-column"}),
    ],
)
def test_the_shell_completes(world: World, typed: str, offered: set[str]) -> None:
    words = typed.split()
    env = {"_SKILLNET_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; sys.argv = ['skillnet']; from skillnet_cli.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert offered <= set(done.stdout.split())
