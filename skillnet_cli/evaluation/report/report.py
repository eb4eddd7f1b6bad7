"""The report of a run: its figures, its learning curves, and what its model finds, hears and says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from skillnet_cli.api import DamagedItem, Task, UserError
from skillnet_cli.data.prepared import PreparedSet, Split, find_set
from skillnet_cli.evaluation.report.html import Line, Markup, element, facts, joined, line_chart, note, page, thinned
from skillnet_cli.files import read_json_lines, write_whole
from skillnet_cli.plugins import Registry, resolve
from skillnet_cli.runs import Count, Figure, read_results

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


def _curves(run: Path) -> Markup:
    """A section for each stage that the run has, a card for each of its tasks."""
    return joined(_stage(stage, list(rows_of(run / stage / "metrics.jsonl"))) for stage in STAGES)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics.jsonl; none where there is no file, and a line that was cut off is passed over.

    Raises:
        UserError: a row lacks something, or has something else than a number as a figure; the line says where.
    """
    for number, row in read_json_lines(path):
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


@dataclass(frozen=True)
class Album:
    """Shows items of one split, each by the ``preview`` of its modality."""

    split: Split
    registry: Registry

    def show(self, index: int, skill: str, which: int = 0) -> Markup:
        """An item's field of a skill as HTML; ``which`` of its texts where it has several."""
        try:
            value = self.split[index][skill]
            source = value[which] if isinstance(value, list) else value
            preview = self.registry.modality(skill).preview
            return Markup(resolve(preview)(source)) if preview else _plain(source)
        except (DamagedItem, UserError, LookupError) as error:
            return note(f"cannot be shown: {error}")


def _gallery(row: Mapping[str, Any], registry: Registry, roots: Sequence[Path]) -> Markup:
    """The cases of one result. Where its task or set is not there any more, a line says so."""
    if not row["cases"]:
        return Markup()
    title = element("h3", f"{row['task']} ", element("small", f"{row['set']}:{row['split']}"))
    try:
        task = registry.task(row["task"])
        split = PreparedSet.open(find_set(row["set"], roots)).split(row["split"])
    except UserError as error:
        return joined((title, note(f"cannot be shown: {error}")))
    album = Album(split, registry)
    return joined((title, *((_search if "best" in case else _answer)(case, task, album) for case in row["cases"])))


def _search(case: Mapping[str, Any], task: Task, album: Album) -> Markup:
    """The query, the best items with their scores, the truth."""
    asking, found = task.towers[0][-1], task.towers[-1][-1]
    best = [_hit(hit, case["index"], found, album) for hit in case["best"]]
    caption = element("figcaption", "ground truth")
    truth = element("figure", album.show(case["index"], found), caption, class_="truth")
    query = (album.show(case["index"], asking, case["caption"]), element("small", f"rank {case['rank']}"))
    return element(
        "section",
        element("div", *query, class_="query"),
        element("div", *best, truth, class_="hits"),
        class_="case",
    )


def _hit(hit: Mapping[str, Any], truth: int, skill: str, album: Album) -> Markup:
    style, mark = ("right", " ✓") if hit["index"] == truth else ("wrong", "")
    caption = element("figcaption", f"score {hit['score']:.3f}{mark}")
    return element("figure", album.show(hit["index"], skill), caption, class_=style)


def _answer(case: Mapping[str, Any], task: Task, album: Album) -> Markup:
    """The item, what the model says of it, what is true."""
    right = case["predicted"] == case["reference"]
    style, mark = ("right", "✓") if right else ("wrong", "✗")
    shown = [album.show(case["index"], skill) for skill in task.towers[0]]
    said = element(
        "dl",
        element("dt", "model"),
        element("dd", f"{str(case['predicted']) or '(nothing)'} {mark}", class_=style),
        element("dt", "truth"),
        element("dd", case["reference"]),
    )
    return element("section", element("div", *shown, class_="query"), said, class_="case")


def _plain(source: Any) -> Markup:
    return element("p", source) if isinstance(source, str) else note("has no preview")


REPORT = "report.html"
DEV = "dev"


def write_report(run: Path, registry: Registry, roots: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page of a run, whole or not at all, and return its path: ``out``, or ``report.html`` in its folder.

    Figures and cases come from ``results.json``, curves from the stages' ``metrics.jsonl``, pictures and texts from
    the prepared sets below ``roots``.

    Raises:
        UserError: ``results.json`` or a ``metrics.jsonl`` is damaged.
    """
    rows = read_results(run)
    sections = {
        "Results": _results(rows),
        "Learning curves": _curves(run),
        "Examples": joined(_gallery(row, registry, roots) for row in _shown(rows)),
        "Recipe": _recipe(run / "recipe.toml"),
    }
    out = out or run / REPORT
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page(f"skillnet: {run.resolve().name}", sections))
    return out


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows whose cases are worth showing: those of a task's dev part only where nothing else was measured."""
    tested = {row["task"] for row in rows if row["split"] != DEV}
    return [row for row in rows if row["split"] != DEV or row["task"] not in tested]


def _results(rows: Sequence[Mapping[str, Any]]) -> Markup:
    if not rows:
        return note("nothing has been measured yet: skillnet eval --task TASK")
    head = element("tr", *(element("th", title) for title in ("task", "set", "figures", "items", "how")))
    return element("div", element("table", head, *map(_row, rows)), class_="wide")


def _row(row: Mapping[str, Any]) -> Markup:
    figures = [joined((f"{name} ", element("b", f"{value:.4f}"))) for name, value in row["metrics"].items()]
    items = [f"{row['items']:,}"]
    if row["damaged"]:
        items += [element("br"), element("small", f"{row['damaged']:,} unreadable")]
    how = facts((name, _said(fact)) for name, fact in row["protocol"].items())
    return element(
        "tr",
        element("td", row["task"]),
        element("td", f"{row['set']}:{row['split']}"),
        element("td", joined(figures, element("br")), class_="number"),
        element("td", *items, class_="number"),
        element("td", element("details", element("summary", "protocol"), how)),
    )


def _said(fact: Any) -> str:
    """A fact of a protocol in words; those of several metrics one after another."""
    if isinstance(fact, Mapping):
        return "; ".join(f"{name}: {_said(inner)}" for name, inner in fact.items())
    return str(fact)


def _recipe(path: Path) -> Markup:
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return element("details", element("summary", path.name), element("pre", text)) if text else Markup()
