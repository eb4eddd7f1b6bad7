"""The learning curves of a run: for each stage and task its loss, and its figures on the dev splits."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from skillnet_cli.api import UserError
from skillnet_cli.evaluation.charts import Line, line_chart, thinned
from skillnet_cli.evaluation.markup import Markup, element, joined
from skillnet_cli.evaluation.result import Count, Figure

STAGES = ("pretrain", "finetune")
STYLES = ("second", "third", "first")


class _Row(BaseModel):
    """What every row of a metrics.jsonl has, and below it what those that are drawn must have."""

    model_config = ConfigDict(strict=True)
    kind: str


class _Trained(_Row):
    step: Count
    task: str
    loss: Figure | None


class _Measured(_Row):
    step: Count
    task: str
    set: str
    metrics: dict[str, Figure | None]


ROWS: Mapping[str, type[_Row]] = {"train": _Trained, "eval": _Measured}


def curves(run: Path) -> Markup:
    """A section for each stage that the run has, a card for each of its tasks."""
    return joined(_stage(stage, list(rows_of(run / stage / "metrics.jsonl"))) for stage in STAGES)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics.jsonl; none where there is no file, and a line that was cut off is passed over.

    Raises:
        UserError: a row lacks something, or has something else than a number as a figure; the line says where.
    """
    if not path.exists():
        return
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line, parse_constant=lambda _: None)  # a figure that was not finite
            except (ValueError, RecursionError):
                continue
            try:
                kind = _Row.model_validate(row).kind
                ROWS.get(kind, _Row).model_validate(row)
            except ValidationError as error:
                first = error.errors()[0]
                what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
                raise UserError(f"{path}:{number}: damaged ({what}): delete the line") from error
            yield row


def _stage(stage: str, rows: list[dict[str, Any]]) -> Markup:
    tasks = dict.fromkeys(row["task"] for row in rows if row["kind"] in ("train", "eval"))
    if not tasks:
        return Markup()
    cards = [_card(task, [row for row in rows if row.get("task") == task]) for task in tasks]
    return joined((element("h3", stage), element("div", *cards, class_="cards")))


def _card(task: str, rows: list[dict[str, Any]]) -> Markup:
    loss = [
        (float(row["step"]), float(row["loss"])) for row in rows if row["kind"] == "train" and row["loss"] is not None
    ]
    charts = [element("figcaption", "loss"), line_chart([Line(thinned(loss))], "loss")]
    charts += [_measured(place, names, rows) for place, names in _figures(rows).items()]
    return element("figure", element("h4", task), *charts)


def _figures(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """(set, kind of metric) -> metrics: those that differ only behind an @ share a chart."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name in row["metrics"] if row["kind"] == "eval" else ():
            names = found.setdefault((row["set"], name.partition("@")[0]), [])
            if name not in names:
                names.append(name)
    return found


def _measured(place: tuple[str, str], names: list[str], rows: list[dict[str, Any]]) -> Markup:
    name_of_set, kind = place
    styled = list(zip(names, itertools.cycle(STYLES)))
    lines = [Line(points(rows, name_of_set, name), style) for name, style in styled]
    legend = joined((element("span", name, class_=style) for name, style in styled), ", ")
    return joined((element("figcaption", legend, f" on {name_of_set}"), line_chart(lines, kind)))


def points(rows: Sequence[Mapping[str, Any]], name_of_set: str, metric: str) -> list[tuple[float, float]]:
    """(step, figure) of each time that a metric was measured on a set."""
    measured = (row for row in rows if row["kind"] == "eval" and row["set"] == name_of_set)
    values = ((row["step"], row["metrics"].get(metric)) for row in measured)
    return [(float(step), float(value)) for step, value in values if value is not None]
