"""A modality that skillnet has never heard of goes the whole way after nothing but an installation."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from tests.examples.conftest import SERIES
from tests.verbs import Terminal

KINDS = 4


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory, series_site: Path) -> Terminal:
    """A folder in which the example's recipe has been trained, briefly, on the example's runs."""
    folder = tmp_path_factory.mktemp("waves")
    runpy.run_path(str(SERIES / "waves.py"))["write_runs"](folder / "waves", 160)
    terminal = Terminal(folder, {"PYTHONPATH": str(series_site)})
    columns = ["--columns", "series=file,label=kind", "--split-column", "split"]
    terminal.succeed("prepare", "table", "waves/runs.csv", "--task", "kind", *columns, "--out", "data/waves")
    terminal.succeed("finetune", SERIES / "recipe.toml", "--set", "finetune.steps=80")
    return terminal


def test_it_is_listed(terminal: Terminal) -> None:
    rows = {row["distribution"]: row for row in json.loads(terminal.succeed("plugins", "--json"))["plugins"]}
    assert rows["skillnet-series"]["skills"] == ["series"]


def test_it_has_learnt_its_kinds(terminal: Terminal) -> None:
    (result,) = json.loads(terminal.succeed("eval", "--task", "kind", "--json"))["results"]
    assert result["items"] == 32
    assert result["metrics"]["accuracy"] > 2 / KINDS


def test_u03_it_classifies(terminal: Terminal) -> None:
    """A file of every kind: the label that the run of readings was made with is the likeliest of most."""
    rows = [line.split(",") for line in (terminal.folder / "waves" / "runs.csv").read_text().splitlines()]
    file, kind, split = (rows[0].index(name) for name in ("file", "kind", "split"))
    truth = {f"waves/{row[file]}": row[kind] for row in rows[1:] if row[split] == "test"}
    document = json.loads(terminal.succeed("classify", *truth, "--json", "--top", "9"))
    assert [row["item"] for row in document["items"]] == list(truth) and document["task"] == "kind"
    for row in document["items"]:
        assert sum(each["probability"] for each in row["labels"]) == pytest.approx(1, abs=1e-5)
        assert len(row["labels"]) == KINDS
    right = sum(row["labels"][0]["label"] == truth[row["item"]] for row in document["items"])
    (result,) = json.loads(terminal.succeed("eval", "--task", "kind", "--json"))["results"]
    assert right / len(truth) == pytest.approx(result["metrics"]["accuracy"])


def test_its_parameters_are_counted(terminal: Terminal) -> None:
    assert "skill:series" in terminal.succeed("inspect")


def test_without_it_the_model_says_what_is_missing(terminal: Terminal) -> None:
    assert "series" in Terminal(terminal.folder).mistake("eval", "--task", "kind")


def test_a_wrong_key_of_its_table_is_found_by_its_own_schema(terminal: Terminal, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text((SERIES / "recipe.toml").read_text().replace("longest = 32", "longset = 32"))
    line = terminal.mistake("finetune", recipe)
    number = recipe.read_text().splitlines().index("longset = 32") + 1
    assert f"recipe.toml:{number}" in line and "longset" in line and "longest" in line
