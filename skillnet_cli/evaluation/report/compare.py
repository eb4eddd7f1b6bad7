"""Several runs in one picture: a chart for each task's metric over updates, a line for each run (paper, figure 5)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skillnet_cli.evaluation.report.html import Line, Markup, element, joined, line_chart, note, page, thinned
from skillnet_cli.evaluation.report.report import STAGES, points, rows_of
from skillnet_cli.files import write_whole
from skillnet_cli.runs import read_results

STYLES = ("first", "second", "third", "fourth", "fifth", "sixth")

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Of one stage: each run's rows of metrics.jsonl."""


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Write one self-contained page with the learning curves and last figures of several runs.

    Raises:
        UserError: a ``results.json`` or ``metrics.jsonl`` is damaged.
        FailedJob: the page cannot be written.
    """
    names = distinct(runs)
    colours = dict(zip(names, itertools.cycle(STYLES)))
    legend = joined((element("span", name, class_=style) for name, style in colours.items()), ", ")
    sections = {"Runs": joined((element("p", legend), _figures(names)))}
    for stage in STAGES:
        rows = {name: list(rows_of(run / stage / "metrics.jsonl")) for name, run in names.items()}
        sections[f"Learning curves: {stage}"] = _stage(rows, colours)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page(f"skillnet: {', '.join(names)}", sections))
    return out


def distinct(runs: Sequence[Path]) -> dict[str, Path]:
    """The runs by the ends of their paths, as short as tells them apart."""
    whole = list(dict.fromkeys(run.resolve() for run in runs))
    for length in itertools.count(1):
        names = ["/".join(run.parts[-length:]) for run in whole]
        if len(set(names)) == len(names):
            return dict(zip(names, whole, strict=True))
    raise AssertionError("paths that differ differ somewhere")


def _stage(rows: Rows, colours: Mapping[str, str]) -> Markup:
    tasks = dict.fromkeys(row["task"] for each in rows.values() for row in each if row["kind"] in ("train", "eval"))
    cards = [_card(task, _of_task(rows, task), colours) for task in tasks]
    return element("div", *cards, class_="cards") if cards else Markup()


def _of_task(rows: Rows, task: str) -> Rows:
    return {name: [row for row in each if row.get("task") == task] for name, each in rows.items()}


def _card(task: str, rows: Rows, colours: Mapping[str, str]) -> Markup:
    measured = dict.fromkeys(
        (row["set"], metric)
        for each in rows.values()
        for row in each
        if row["kind"] == "eval"
        for metric in row["metrics"]
    )
    charts = [
        _chart(f"{metric} on {name}", {run: points(each, name, metric) for run, each in rows.items()}, colours)
        for name, metric in measured
    ]
    charts.append(_chart("loss", {run: thinned(_losses(each)) for run, each in rows.items()}, colours))
    return element("figure", element("h4", task), *charts)


def _chart(title: str, lines: Mapping[str, Sequence[tuple[float, float]]], colours: Mapping[str, str]) -> Markup:
    drawn = [Line(each, colours[run]) for run, each in lines.items() if each]
    return joined((element("figcaption", title), line_chart(drawn, title, "update")))


def _losses(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    return [
        (float(row["step"]), float(row["loss"])) for row in rows if row["kind"] == "train" and row["loss"] is not None
    ]


def _figures(runs: Mapping[str, Path]) -> Markup:
    """The kept results of all runs side by side: a row for each task, set and metric that any of them has."""
    tables = {name: _results(run) for name, run in runs.items()}
    keys = sorted({key for table in tables.values() for key in table})
    if not keys:
        return note("nothing has been measured yet: skillnet eval --task TASK")
    head = element("tr", *(element("th", title) for title in ("task", "set", "metric", *runs)))
    body = (
        element(
            "tr",
            *(element("td", part) for part in key),
            *(element("td", _figure(table.get(key)), class_="number") for table in tables.values()),
        )
        for key in keys
    )
    return element("div", element("table", head, *body), class_="wide")


def _results(run: Path) -> dict[tuple[str, str, str], float]:
    return {
        (row["task"], f"{row['set']}:{row['split']}", metric): float(value)
        for row in read_results(run)
        for metric, value in row["metrics"].items()
    }


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
