"""The command line as a process: quick to answer, free of torch until a verb needs it, completing words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from skillnet_cli import __version__
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


@pytest.mark.parametrize(
    ("words", "held"),
    [
        ("", ["prepare", "data", "verify", "plugins"]),
        ("data", ["show", "verify", "overlap"]),
        ("prepare", ["NAME", "table", "vocab", "merge"]),
        ("recipes", ["list", "show", "check", "copy"]),
        ("skills", ["list", "graft", "diff"]),
        ("verify", ["resume"]),
    ],
)
def test_a_group_lists_its_commands(world: World, words: str, held: list[str]) -> None:
    alone, asked = (world.skillnet(*words.split(), *help_)[0] for help_ in ([], ["--help"]))
    assert alone == asked and all(re.search(rf"^  {name} ", alone, re.MULTILINE) for name in held)


def test_the_version(world: World) -> None:
    assert world.skillnet("--version")[0] == f"skillnet {__version__}\n"


def commands(group: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of every command, those in groups included."""
    for name, command in group.commands.items():
        yield from commands(command, *words, name) if hasattr(command, "commands") else [(*words, name)]


@pytest.mark.parametrize("words", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_every_command_has_an_example_and_explains_its_options(world: World, words: tuple[str, ...]) -> None:
    help_, _ = world.skillnet(*words, "-h")
    assert re.search(rf"Examples?:\n +skillnet {' '.join(words).removesuffix(' NAME')}", help_)
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
        ("skillnet prepare ta", {"table"}),
        ("skillnet prepare --li", {"--list", "--limit"}),
        ("skillnet data sh", {"show"}),
        ("skillnet data show pai", {"pairs"}),
        ("skillnet finetune pap", {"paper"}),
    ],
)
def test_the_shell_completes(world: World, typed: str, offered: set[str]) -> None:
    world.prepare("pairs")
    words = typed.split()
    env = {"_SKILLNET_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; sys.argv = ['skillnet']; from skillnet_cli.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert offered <= set(done.stdout.split())
