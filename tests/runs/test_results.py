"""results.json: kept per task and split, of one model, never half written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.runs import Result, read_results, record_results


def result(task: str, split: str, figure: float) -> Result:
    return Result(task, "set", split, {"accuracy": figure}, items=3, queries=3)


def test_a_new_figure_replaces_the_old_one_of_its_split_alone(tmp_path: Path) -> None:
    record_results(tmp_path, [result("b", "test", 0.1), result("a", "test", 0.2)], "one")
    record_results(tmp_path, [result("b", "test", 0.3), result("b", "dev", 0.4)], "one")
    rows = [(row["task"], row["split"], row["metrics"]["accuracy"]) for row in read_results(tmp_path)]
    assert rows == [("a", "test", 0.2), ("b", "dev", 0.4), ("b", "test", 0.3)]


def test_figures_of_another_model_are_dropped(tmp_path: Path) -> None:
    record_results(tmp_path, [result("a", "test", 0.1)], "one")
    record_results(tmp_path, [result("b", "test", 0.2)], "two")
    assert [(row["task"], row["model"]) for row in read_results(tmp_path)] == [("b", "two")]


def test_nothing_measured_is_no_rows(tmp_path: Path) -> None:
    assert read_results(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"results"'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=r"results\.json is not readable"):
        read_results(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    record_results(tmp_path, [result("a", "test", 0.1)], "one")
    before = (tmp_path / "results.json").read_bytes()
    unwritable = Result("a", "set", "test", {}, 1, 1, protocol={"what": object()})
    with pytest.raises(TypeError):
        record_results(tmp_path, [unwritable], "one")
    assert (tmp_path / "results.json").read_bytes() == before and json.loads(before)
