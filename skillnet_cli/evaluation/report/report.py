"""The report of a run: its metrics, its learning curves and examples; and the comparison of several (paper, figure 5).

Metrics and examples come from a run's ``results.json``, curves from its stages' ``metrics.jsonl``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from skillnet_cli.api import DamagedItem, Task, UserError
from skillnet_cli.data.format import MANIFEST
from skillnet_cli.data.prepared import PreparedSet, Split, find_set, is_dev
from skillnet_cli.evaluation.report.html import Markup, element, facts, line_chart, page
from skillnet_cli.files import write_whole
from skillnet_cli.plugins import Registry, resolve
from skillnet_cli.recipe.load import MAX_BYTES
from skillnet_cli.runs import Count, Figure, read_metrics_lines, read_results
from skillnet_cli.untrusted import Untrusted, read_bytes

REPORT = "report.html"
STAGES = ("pretrain", "finetune")
NO_RESULTS = "no results yet: run 'skillnet eval --task TASK'"

Row: TypeAlias = Mapping[str, Any]
"""A row of a results.json or a metrics.jsonl."""

METRIC_STYLES = ("second", "third", "first")
RUN_STYLES = ("first", "second", "third", "fourth", "fifth", "sixth")
"""Classes of lines in the page's style sheet, over and over where there are more lines."""


def write_report(run: Path, registry: Registry, roots: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page of one run, whole or not at all.

    Args:
        run: the run's folder.
        registry: whose modalities show examples.
        roots: where the prepared sets of examples are looked for.
        out: the page; ``report.html`` in the run's folder by default.

    Returns:
        The path of the page.

    Raises:
        UserError: ``results.json`` or a ``metrics.jsonl`` is damaged.
        FailedJob: the page cannot be written.
    """
    results = read_results(run)
    # Of a task's dev split examples are shown only where nothing else of it was measured.
    tested = {row["task"] for row in results if not is_dev(row["split"])}
    shown = (row for row in results if not is_dev(row["split"]) or row["task"] not in tested)
    sections = {
        "Results": _results(results),
        "Learning curves": Markup().join(_stage_curves(run, stage) for stage in STAGES),
        "Examples": Markup().join(_examples(row, registry, roots) for row in shown),
        "Recipe": _recipe(run / "recipe.toml"),
    }
    return _write(f"skillnet: {run.resolve().name}", sections, out or run / REPORT)


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Write one page with the learning curves and the latest results of several runs, and return its path.

    A chart shows one metric of one task on one set, with a line for each run that measured it.

    Raises:
        UserError: a ``results.json`` or ``metrics.jsonl`` is damaged.
        FailedJob: the page cannot be written.
    """
    names = _short_names(runs)
    styles = dict(zip(names, itertools.cycle(RUN_STYLES)))
    legend = Markup(", ").join(element("span", name, class_=style) for name, style in styles.items())
    sections = {"Runs": Markup().join((element("p", legend), _result_table(names)))}
    for stage in STAGES:
        rows = {name: list(_read_rows(run / stage / "metrics.jsonl")) for name, run in names.items()}
        sections[f"Learning curves: {stage}"] = _compared_curves(rows, styles)
    return _write(f"skillnet: {', '.join(names)}", sections, out)


def _write(title: str, sections: Mapping[str, Markup], out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page(title, sections))
    return out


# Results


def _results(rows: Sequence[Row]) -> Markup:
    if not rows:
        return element("p", NO_RESULTS, class_="note")
    head = element("tr", *(element("th", title) for title in ("task", "set", "metrics", "items", "protocol")))
    return element("div", element("table", head, *map(_result, rows)), class_="wide")


def _result(row: Row) -> Markup:
    metrics = (Markup(" ").join((name, element("b", _figure(value)))) for name, value in row["metrics"].items())
    items = [f"{row['items']:,}"]
    if row["damaged"]:
        items += [element("br"), element("small", f"{row['damaged']:,} unreadable")]
    protocol = facts((name, _in_words(fact)) for name, fact in row["protocol"].items())
    return element(
        "tr",
        element("td", row["task"]),
        element("td", *_place(row)),
        element("td", element("br").join(metrics), class_="number"),
        element("td", *items, class_="number"),
        element("td", element("details", element("summary", "protocol"), protocol)),
    )


def _figure(value: int | float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"


def _place(row: Row) -> list[Markup | str]:
    """The split that a row is of, and its checksum, which tells sets of one name apart."""
    checksum = row.get("checksum")
    return [f"{row['set']}:{row['split']}", *([element("br"), element("small", checksum)] if checksum else [])]


def _in_words(fact: Any) -> str:
    """A fact of a protocol; those of several metrics one after another."""
    if isinstance(fact, Mapping):
        return "; ".join(f"{name}: {_in_words(inner)}" for name, inner in fact.items())
    return str(fact)


def _result_table(runs: Mapping[str, Path]) -> Markup:
    """The results of several runs side by side: a row for each task, set and metric that any of them has."""
    tables = {
        name: {
            (row["task"], f"{row['set']}:{row['split']}", row.get("checksum", ""), metric): _figure(value)
            for row in read_results(run)
            for metric, value in row["metrics"].items()
        }
        for name, run in runs.items()
    }
    keys = sorted({key for table in tables.values() for key in table})
    if not keys:
        return element("p", NO_RESULTS, class_="note")
    head = element("tr", *(element("th", title) for title in ("task", "set", "checksum", "metric", *runs)))
    body = (
        element(
            "tr",
            *(element("td", part) for part in key),
            *(element("td", table.get(key, "–"), class_="number") for table in tables.values()),
        )
        for key in keys
    )
    return element("div", element("table", head, *body), class_="wide")


def _short_names(runs: Sequence[Path]) -> dict[str, Path]:
    """The runs, each once, by as many of the last parts of their paths as tell them apart."""
    whole = list(dict.fromkeys(run.resolve() for run in runs))
    for length in itertools.count(1):
        names = ["/".join(run.parts[-length:]) for run in whole]
        if len(set(names)) == len(names):
            return dict(zip(names, whole, strict=True))
    raise AssertionError("paths that differ differ somewhere")


def _recipe(path: Path) -> Markup:
    try:
        text = str(read_bytes(path, MAX_BYTES), "utf-8", "replace")
    except (Untrusted, OSError) as error:
        return element("p", f"{path.name} cannot be shown: {error}", class_="note")
    return element("details", element("summary", path.name), element("pre", text)) if text else Markup()


# Learning curves


class _Row(BaseModel):
    """What every row of a metrics.jsonl has, and below it what those that are drawn must have."""

    model_config = ConfigDict(strict=True)  # else True and "3" would pass for numbers
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


def _read_rows(path: Path) -> Iterator[Row]:
    """The rows of a metrics.jsonl; none where there is no file, and a line that was cut off is passed over.

    Raises:
        UserError: a row lacks a field, or a metric in it is not a number; the line is named.
    """
    kinds: Mapping[str, type[_Row]] = {"train": _Trained, "eval": _Measured}
    for number, row in read_metrics_lines(path):
        if row is None:
            continue
        try:
            kind = _Row.model_validate(row).kind
            kinds.get(kind, _Row).model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
            raise UserError(f"{path}:{number}: damaged ({what}): delete the line") from error
        yield row


def _stage_curves(run: Path, stage: str) -> Markup:
    """A card for each task of a run's stage, below the stage's name; nothing where the run does not have the stage."""
    rows = list(_read_rows(run / stage / "metrics.jsonl"))
    tasks = dict.fromkeys(row["task"] for row in rows if row["kind"] in ("train", "eval"))
    if not tasks:
        return Markup()
    cards = [_card(task, [row for row in rows if row.get("task") == task]) for task in tasks]
    return Markup().join((element("h3", stage), element("div", *cards, class_="cards")))


def _card(task: str, rows: Sequence[Row]) -> Markup:
    """The charts of a task: its loss, and its metrics; those of one kind, such as recall@1 and recall@10, share one."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for name, metric in _measured(rows):
        kinds.setdefault((name, metric.partition("@")[0]), []).append(metric)
    charts = [element("figcaption", "loss"), line_chart([("first", _losses(rows))], "loss")]
    for (name, kind), metrics in kinds.items():
        styles = dict(zip(metrics, itertools.cycle(METRIC_STYLES)))
        legend = Markup(", ").join(element("span", metric, class_=style) for metric, style in styles.items())
        lines = [(style, _points(rows, name, metric)) for metric, style in styles.items()]
        charts += [element("figcaption", legend, f" on {name}"), line_chart(lines, kind)]
    return element("figure", element("h4", task), *charts)


def _compared_curves(rows: Mapping[str, Sequence[Row]], styles: Mapping[str, str]) -> Markup:
    """A card for each task that any of several runs has in a stage; rows and styles go by the runs' names."""
    every = list(itertools.chain.from_iterable(rows.values()))
    tasks = dict.fromkeys(row["task"] for row in every if row["kind"] in ("train", "eval"))
    cards = []
    for task in tasks:
        own = {run: [row for row in each if row.get("task") == task] for run, each in rows.items()}
        charts = []
        for name, metric in _measured([row for each in own.values() for row in each]):
            lines = [(styles[run], _points(each, name, metric)) for run, each in own.items()]
            title = f"{metric} on {name}"
            charts += [element("figcaption", title), line_chart(lines, title, "update")]
        losses = [(styles[run], _losses(each)) for run, each in own.items()]
        charts += [element("figcaption", "loss"), line_chart(losses, "loss", "update")]
        cards.append(element("figure", element("h4", task), *charts))
    return element("div", *cards, class_="cards") if cards else Markup()


def _measured(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The sets and metrics that rows of evaluations have, each pair once."""
    evaluations = (row for row in rows if row["kind"] == "eval")
    return list(dict.fromkeys((row["set"], metric) for row in evaluations for metric in row["metrics"]))


def _points(rows: Sequence[Row], name: str, metric: str) -> list[tuple[float, float]]:
    """(step, value) of each time that a metric was measured on the set of that name."""
    measured = (row for row in rows if row["kind"] == "eval" and row["set"] == name)
    values = ((row["step"], row["metrics"].get(metric)) for row in measured)
    return [(float(step), float(value)) for step, value in values if value is not None]


def _losses(rows: Sequence[Row]) -> list[tuple[float, float]]:
    trained = (row for row in rows if row["kind"] == "train" and row["loss"] is not None)
    return [(float(row["step"]), float(row["loss"])) for row in trained]


# Examples


@dataclass(frozen=True)
class Previews:
    """Shows items of one split, each by the ``preview`` of its modality."""

    split: Split
    registry: Registry

    def show(self, index: int, skill: str, which: int = 0, field: str | None = None) -> Markup:
        """An item's field of a skill as HTML, or a line that says why it cannot be shown.

        Args:
            index: the item's place in the split.
            skill: the skill that reads the field.
            which: of its texts, where it has several.
            field: the field, where it is not the one of the skill's name.
        """
        try:
            value = self.split[index][field or skill]
            source = value[which] if isinstance(value, list) else value
            if not isinstance(source, (str, bytes)):
                raise DamagedItem("it is neither a text nor a file")
            preview = self.registry.modality(skill).preview
            # A preview of files would open the one that a text names, which may be any on this machine.
            if preview and not (isinstance(source, str) and _names_a_file(source)):
                return Markup(resolve(preview)(source))
            return element("p", source) if isinstance(source, str) else element("p", "has no preview", class_="note")
        # The set may be another than the one that was measured: an index or a field of the example may be missing.
        except (DamagedItem, UserError, LookupError) as error:
            return element("p", f"cannot be shown: {error}", class_="note")


def _names_a_file(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a path, or with a null byte
        return False


def _examples(row: Row, registry: Registry, roots: Sequence[Path]) -> Markup:
    """The examples of one result; a line instead where its task or its set is not available any more."""
    if not row["cases"]:
        return Markup()
    title = element("h3", f"{row['task']} ", element("small", f"{row['set']}:{row['split']}"))
    try:
        task = registry.task(row["task"])
        split = _find_measured(row, roots)
    except UserError as error:
        return Markup().join((title, element("p", f"cannot be shown: {error}", class_="note")))
    previews = Previews(split, registry)
    shown = [(_search if "best" in case else _prediction)(case, task, previews) for case in row["cases"]]
    return Markup().join((title, *shown))


def _find_measured(row: Row, roots: Sequence[Path]) -> Split:
    """The split that a result was measured on: that of the set's name, or another one below the roots that is equal.

    Raises:
        UserError: there is none any more.
    """
    name, part, checksum = Path(row["set"]), row["split"], row.get("checksum", "")
    if name.is_absolute() or ".." in name.parts:  # the file may be anyone's, and ours never say so
        raise UserError("its set lies outside the folders of data")
    named = PreparedSet.open(find_set(row["set"], roots), roots)
    there = named.manifest.splits.get(part)
    if not checksum or (there and named.split(part).checksum == checksum):
        return named.split(part)
    for path in sorted(path for root in roots for path in root.glob(f"*/{MANIFEST}")):
        try:
            other = PreparedSet.open(path.parent, roots)
        except UserError:
            continue
        if part in other.manifest.splits and other.split(part).checksum == checksum:
            return other.split(part)
    raise UserError(f"{named.path} is not what was measured any more (its checksum was {checksum})")


def _search(case: Row, task: Task, previews: Previews) -> Markup:
    """A query with its rank, the best items with their scores, and the right one."""
    query_skill, item_skill = task.towers[0][-1], task.towers[-1][-1]
    hits = []
    for hit in case["best"]:
        style, mark = ("right", " ✓") if hit["index"] == case["index"] else ("wrong", "")
        caption = element("figcaption", f"score {hit['score']:.3f}{mark}")
        hits.append(element("figure", previews.show(hit["index"], item_skill), caption, class_=style))
    truth = previews.show(case["index"], item_skill), element("figcaption", "ground truth")
    hits.append(element("figure", *truth, class_="truth"))
    query = previews.show(case["index"], query_skill, case["caption"]), element("small", f"rank {case['rank']}")
    return element(
        "section", element("div", *query, class_="query"), element("div", *hits, class_="hits"), class_="case"
    )


def _prediction(case: Row, task: Task, previews: Previews) -> Markup:
    """An item, what the model predicts, and the reference."""
    style, mark = ("right", "✓") if case["predicted"] == case["reference"] else ("wrong", "✗")
    shown = [
        previews.show(case["index"], skill, field=name) for skill in task.towers[0] for name in task.fields_of(skill)
    ]
    compared = element(
        "dl",
        element("dt", "prediction"),
        element("dd", f"{str(case['predicted']) or '(nothing)'} {mark}", class_=style),
        element("dt", "reference"),
        element("dd", case["reference"]),
    )
    return element("section", element("div", *shown, class_="query"), compared, class_="case")
