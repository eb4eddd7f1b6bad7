"""The command line as people know them: what help, mistakes and completion say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from skillnet_cli.cli.app import app, run
from skillnet_cli.prepare.preparer import default_cache
from tests import unpinned


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


def said(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says on standard error."""
    monkeypatch.setenv("SKILLNET_VERBOSITY", "")
    monkeypatch.chdir(tmp_path)
    run(words.split())
    return capsys.readouterr().err


@pytest.mark.parametrize("place", ["before", "behind"])
def test_u14_quiet_and_verbose(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(option: str, words: str) -> str:
        return said(f"{option} {words}" if place == "before" else f"{words} {option}", tmp_path, monkeypatch, capsys)

    sentences = tmp_path / "texts"
    sentences.mkdir()
    (sentences / "a.txt").write_text("今天的天气很好，我们一起去公园散步吧。\n" * 9)
    words = f"prepare vocab --modality text --from {sentences}/a.txt --size 30 --out {tmp_path}/"
    assert shown("", words + "one.txt") and not shown("-q", words + "two.txt")
    assert (tmp_path / "one.txt").read_bytes() == (tmp_path / "two.txt").read_bytes()
    assert shown("--quiet", "data show nowhere").count("\n") == 1
    assert "Traceback" in shown("-v", "data show nowhere") and "Traceback" not in shown("", "data show nowhere")
    assert "choose one" in shown("-q", "-v data show nowhere")


def test_u14_what_follows_two_dashes_is_no_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "-q" in said("data show -- -q", tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"SKILLNET_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"SKILLNET_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/skillnet"),
        ({"SKILLNET_CACHE": "", "XDG_CACHE_HOME": "b"}, "/home/somebody/.cache/skillnet"),
        ({"SKILLNET_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/somebody/.cache/skillnet"),
    ],
)
def test_u14_the_cache_lies_where_the_xdg_specification_has_it(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**variables, "HOME": "/home/somebody"}.items():
        monkeypatch.setenv(name, value)
    assert default_cache() == Path(folder)


@pytest.mark.parametrize("group", ["data", "recipes", "skills", "verify", "prepare"])
@pytest.mark.parametrize("asked", ["--help", "-h", None])
def test_b12_a_group_lists_its_commands(group: str, asked: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([group, asked] if asked else [group]) == 0
    shown = capsys.readouterr().out
    inner = [words[1] for words in commands() if len(words) == 2 and words[0] == group]
    assert inner and all(re.search(rf"^  {name}\b", shown, re.MULTILINE) for name in inner)


def test_u02_the_script_that_tries_the_newest_versions_runs_the_demos_commands() -> None:
    (core,) = {each.parent for each in Path(unpinned.__file__).resolve().parents[1].glob("pyproject.toml")}
    known = {words[0] for words in commands() if words}
    typed = unpinned.commands()
    assert {words[0] for words in typed} <= known
    assert {"prepare", "pretrain", "finetune", "eval", "embed", "search", "transcribe", "classify"} <= {
        words[0] for words in typed
    }
    assert len(unpinned.FOLDERS) == 6 and core == unpinned.FOLDERS[0]
