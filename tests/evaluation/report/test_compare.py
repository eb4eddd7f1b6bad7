"""Several runs in one picture: a line for each run in every chart, and nothing of a run that lacks a task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.cli.app import run
from skillnet_cli.evaluation.report.report import write_comparison
from skillnet_cli.runs import Result
from tests.evaluation.report.test_report import Page


def make_run(folder: Path, figures: dict[int, float], **more: Any) -> Path:
    (folder / "finetune").mkdir(parents=True)
    (folder / "recipe.toml").write_text('name = "x"\n')
    rows = [{"kind": "start", "step": 0, "world": 1}]
    rows += [{"kind": "train", "step": step, "task": "tc", "loss": 1 / (1 + step)} for step in range(1, 5)]
    rows += [
        {"kind": "eval", "step": step, "task": "tc", "set": "news", "metrics": {"accuracy": value}, "items": 4}
        for step, value in figures.items()
    ]
    (folder / "finetune" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if figures:
        last = Result("tc", "news", "dev", {"accuracy": max(figures.values())}, 4, 4).as_json() | more
        (folder / "results.json").write_text(json.dumps({"results": [last]}))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [
        make_run(tmp_path / "pretrained", {2: 0.5, 4: 0.75}),
        make_run(tmp_path / "fresh", {2: 0.25, 4: 0.625}),
        make_run(tmp_path / "begun", {}),
    ]


def test_every_run_has_a_line_in_every_chart_that_it_has_points_for(runs: list[Path], tmp_path: Path) -> None:
    page = Page(write_comparison(runs, tmp_path / "out" / "page.html").read_text(encoding="utf-8"))
    assert page.open == [] and page.fetched == []
    text = "\n".join(page.texts)
    assert "Learning curves: finetune" in text and "Learning curves: pretrain" not in text
    assert all(run.name in text for run in runs)
    # accuracy: two runs; loss: all three
    assert page.tags.count("polyline") == 2 + 3
    assert "accuracy on news" in text and "0.7500" in text and "0.6250" in text and "–" in text


def test_names_are_as_short_as_tells_runs_apart(tmp_path: Path) -> None:
    places = [tmp_path / "a" / "demo", tmp_path / "b" / "demo", tmp_path / "a" / "demo"]
    page = Page(write_comparison(places, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.texts.count("skillnet: a/demo, b/demo") == 2, "the title, and the heading"


def test_the_verb_writes_beside_the_first_run_or_where_it_is_told(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", *map(str, runs)]) == 0
    assert (tmp_path / "report.html").is_file()
    assert run(["report", *map(str, runs[:2]), "--to", str(tmp_path / "figure5.html")]) == 0
    assert (tmp_path / "figure5.html").is_file()
    assert run(["report", str(runs[0]), str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err
