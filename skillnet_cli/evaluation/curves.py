"""The learning curves of a run: for each stage and task its loss, and its figures on the dev splits."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from skillnet_cli.evaluation.charts import Line, line_chart, thinned

STAGES = ("pretrain", "finetune")
STYLES = ("second", "third", "first")


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
    charts += [_measured(place, names, rows) for place, names in _figures(rows).items()]
    return f"<figure><h4>{escape(task)}</h4>{''.join(charts)}</figure>"


def _figures(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """(set, kind of metric) -> metrics: those that differ only behind an @ share a chart."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name in row["metrics"] if row["kind"] == "eval" else ():
            names = found.setdefault((row["set"], name.partition("@")[0]), [])
            if name not in names:
                names.append(name)
    return found


def _measured(place: tuple[str, str], names: list[str], rows: list[dict[str, Any]]) -> str:
    name_of_set, kind = place
    styled = list(zip(names, itertools.cycle(STYLES)))
    lines = [Line(points(rows, name_of_set, name), style) for name, style in styled]
    legend = ", ".join(f'<span class="{style}">{escape(name)}</span>' for name, style in styled)
    return f"<figcaption>{legend} on {escape(name_of_set)}</figcaption>{line_chart(lines, kind)}"


def points(rows: Sequence[Mapping[str, Any]], name_of_set: str, metric: str) -> list[tuple[float, float]]:
    """(step, figure) of each time that a metric was measured on a set."""
    measured = (row for row in rows if row["kind"] == "eval" and row["set"] == name_of_set)
    values = ((row["step"], row["metrics"].get(metric)) for row in measured)
    return [(float(step), float(value)) for step, value in values if value is not None]
