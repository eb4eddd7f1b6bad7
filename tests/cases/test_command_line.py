"""The command line as people know them: what help, mistakes and completion say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from skillnet_cli.cli.app import app, run


def commands(command: Any = None, *path: str) -> list[tuple[str, ...]]:
    """Every command and group."""
    command = command or typer.main.get_command(app)
    inner = [each for name, one in getattr(command, "commands", {}).items() for each in commands(one, *path, name)]
    return [path, *inner]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_u10_help_names_values_as_people_do(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert not re.search(r"<(int|float|str|path|list|Path)\b", shown) and "Usage: skillnet" in shown


MISTAKES = {
    "search x --top 0": "'--top': must be at least 1, not '0'",
    "search x --top ten": "'--top': must be a whole number, not 'ten'",
    "pretrain demo --nproc 1.5": "'--nproc': must be a whole number, not '1.5'",
    "prepare demo-text --seed -1": "'--seed': must be at least 0, not '-1'",
    "transcribe a.wav --format doc": "'--format': 'doc' is not one of",
}


@pytest.mark.parametrize(("line", "said"), MISTAKES.items(), ids=MISTAKES)
def test_u10_a_wrong_value_is_explained_in_plain_words(
    line: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(line.split()) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "Input should" not in error and "pydantic" not in error
