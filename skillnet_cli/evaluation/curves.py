"""The learning curves of a run: for each stage and task its loss, and its figures on the dev splits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from skillnet_cli.evaluation.charts import Line, line_chart, thinned

STAGES = ("pretrain", "finetune")


def curves(run: Path) -> str:
    """A section for each stage that the run has, a card for each of its tasks."""
    return "".join(_stage(stage, list(rows_of(run / stage / "metrics.jsonl"))) for stage in STAGES)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics.jsonl; none where there is no file, and a line that was cut off is passed over."""
    if not path.exists():
        return
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _stage(stage: str, rows: list[dict[str, Any]]) -> str:
    tasks = dict.fromkeys(row["task"] for row in rows if row["kind"] in ("train", "eval"))
    if not tasks:
        return ""
    cards = "".join(_card(task, [row for row in rows if row.get("task") == task]) for task in tasks)
    return f'<h3>{escape(stage)}</h3><div class="cards">{cards}</div>'


def _card(task: str, rows: list[dict[str, Any]]) -> str:
    loss = [
        (float(row["step"]), float(row["loss"])) for row in rows if row["kind"] == "train" and row["loss"] is not None
    ]
    charts = [f"<figcaption>loss</figcaption>{line_chart([Line(thinned(loss))], 'loss')}"]
    measured = [row for row in rows if row["kind"] == "eval"]
    figures = dict.fromkeys((row["set"], name) for row in measured for name in row["metrics"])
    for name_of_set, name in figures:
        points = [
            (float(row["step"]), float(row["metrics"][name])) for row in measured if _shows(row, name_of_set, name)
        ]
        caption = f"{escape(name)} on {escape(name_of_set)}"
        charts.append(f"<figcaption>{caption}</figcaption>{line_chart([Line(points, 'second')], name)}")
    return f"<figure><h4>{escape(task)}</h4>{''.join(charts)}</figure>"


def _shows(row: dict[str, Any], name_of_set: str, metric: str) -> bool:
    return row["set"] == name_of_set and row["metrics"].get(metric) is not None
