from __future__ import annotations

import json
from pathlib import Path

from skillnet_cli.runs import MetricsLog, read_metrics


def steps(path: Path) -> list[int]:
    return [row["step"] for row in read_metrics(path)]


def test_rows_are_on_disk_at_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "stage" / "metrics.jsonl", 0)
    log.write("train", 1, task="sort", loss=0.5)
    (row,) = read_metrics(tmp_path / "stage" / "metrics.jsonl")
    assert row == {"kind": "train", "step": 1, "task": "sort", "loss": 0.5}
    log.close()


def test_going_on_drops_what_will_be_done_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    for step in (1, 2, 3, 4):
        log.write("train", step)
    log.close()
    path.write_text(path.read_text() + '{"kind": "train", "st')
    again = MetricsLog(path, 2)
    again.write("train", 3)
    again.close()
    assert steps(path) == [1, 2, 3]


def test_what_is_no_row_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('[1]\n{"step": "x"}\n\n{"kind": "eval", "step": 2}\n{"step": 3}\nnull\n')
    assert steps(path) == [2]
    assert steps(tmp_path / "nowhere") == []


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    log.write("train", 1, loss=float("nan"), norm=float("inf"), lr=0.1)
    log.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=lambda word: 1 / 0) == {
        "kind": "train", "step": 1, "loss": None, "norm": None, "lr": 0.1,
    }  # fmt: skip
