"""``skillnet recipes list|show|check|copy``, with the recipes of this repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skillnet_cli.cli.app import run
from skillnet_cli.recipe.toml import parse_toml

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list_names_all_with_their_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["recipes"]}
    assert set(rows) == {path.stem for path in RECIPES.glob("*.toml")} >= {"demo", "mini", "paper"}
    assert rows["paper"]["stages"]["finetune"] == ["tc", "asr", "t2i", "t2v", "t2c"]
    assert rows["demo"]["purpose"].startswith("One model, five modalities")
    assert run(["recipes", "list"]) == 0
    assert "mini: The shape of paper.toml in small" in capsys.readouterr().out


def test_show_prints_the_file_or_the_recipe_as_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "show", "paper"]) == 0
    assert capsys.readouterr().out == (RECIPES / "paper.toml").read_text(encoding="utf-8")
    assert run(["recipes", "show", "paper", "--set", "model.routing=moe"]) == 0
    shown = parse_toml(capsys.readouterr().out)
    assert shown["model"]["routing"] == "moe" and shown["finetune"]["clip"] == 1.0
    assert run(["recipes", "show", "paper", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pretrain"]["steps"] == 1_000_000


def test_check_says_all_of_several_files_and_leaves_code_2(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (RECIPES / "demo.toml").read_text(encoding="utf-8")
    (elsewhere / "one.toml").write_text(text.replace("hidden = 256", "hiden = 256"))
    (elsewhere / "two.toml").write_text(text.replace("[finetune.tasks.t2v]", "[finetune.tasks.t2w]"))
    assert run(["recipes", "check", "one.toml", "demo", "two.toml"]) == 2
    printed = capsys.readouterr()
    assert "demo: no mistakes; pretrain of mlm, units" in printed.out and "one.toml" not in printed.out
    assert "one.toml:8: model.hiden: unknown key: did you mean 'hidden'?" in printed.err
    assert "two.toml" in printed.err and "did you mean 't2v'?" in printed.err


def test_copy_does_not_overwrite(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "copy", "mini"]) == 0
    assert (elsewhere / "mini.toml").read_bytes() == (RECIPES / "mini.toml").read_bytes()
    assert run(["recipes", "copy", "demo", "--to", "mini.toml"]) == 2
    assert "mini.toml already exists" in capsys.readouterr().err
    assert run(["recipes", "copy", "demo", "--to", "new/own.toml"]) == 0
    assert (elsewhere / "new" / "own.toml").is_file()


@pytest.mark.parametrize("verb", ["show", "check", "copy"])
def test_a_name_that_is_none(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", verb, "papper"]) == 2
    assert "no recipe 'papper': did you mean 'paper'?" in capsys.readouterr().err
