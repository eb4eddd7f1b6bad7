"""The report of a run: its figures, its learning curves, and what its model finds, hears and says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skillnet_cli.data.files import write_whole
from skillnet_cli.evaluation.curves import curves
from skillnet_cli.evaluation.galleries import gallery
from skillnet_cli.evaluation.markup import Markup, element, facts, joined, note
from skillnet_cli.evaluation.page import page
from skillnet_cli.evaluation.result import read_results
from skillnet_cli.plugins import Registry

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
        "Learning curves": curves(run),
        "Examples": joined(gallery(row, registry, roots) for row in _shown(rows)),
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
