"""The report of a run: its figures, its learning curves, and what its model finds, hears and says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from skillnet_cli.data.files import write_whole
from skillnet_cli.evaluation.curves import curves
from skillnet_cli.evaluation.galleries import gallery
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
        UserError: ``results.json`` is damaged.
    """
    rows = read_results(run)
    sections = {
        "Results": _results(rows),
        "Learning curves": curves(run),
        "Examples": "".join(gallery(row, registry, roots) for row in _shown(rows)),
        "Recipe": _recipe(run / "recipe.toml"),
    }
    out = out or run / REPORT
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page(f"skillnet: {run.resolve().name}", sections).encode("utf-8"))
    return out


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows whose cases are worth showing: those of a task's dev part only where nothing else was measured."""
    tested = {row["task"] for row in rows if row["split"] != DEV}
    return [row for row in rows if row["split"] != DEV or row["task"] not in tested]


def _results(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return '<p class="note">nothing has been measured yet: skillnet eval --task TASK</p>'
    head = "<tr><th>task</th><th>set</th><th>figures</th><th>items</th><th>how</th></tr>"
    return f'<div class="wide"><table>{head}{"".join(map(_row, rows))}</table></div>'


def _row(row: Mapping[str, Any]) -> str:
    figures = "<br>".join(f"{escape(name)} <b>{value:.4f}</b>" for name, value in row["metrics"].items())
    items = f"{row['items']:,}" + (f"<br><small>{row['damaged']:,} unreadable</small>" if row["damaged"] else "")
    how = "".join(f"<dt>{escape(name)}</dt><dd>{escape(_said(fact))}</dd>" for name, fact in row["protocol"].items())
    return (
        f"<tr><td>{escape(row['task'])}</td><td>{escape(row['set'])}:{escape(row['split'])}</td>"
        f'<td class="number">{figures}</td><td class="number">{items}</td>'
        f"<td><details><summary>protocol</summary><dl>{how}</dl></details></td></tr>"
    )


def _said(fact: Any) -> str:
    """A fact of a protocol in words; those of several metrics one after another."""
    if isinstance(fact, Mapping):
        return "; ".join(f"{name}: {_said(inner)}" for name, inner in fact.items())
    return str(fact)


def _recipe(path: Path) -> str:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return f"<details><summary>{path.name}</summary><pre>{escape(text)}</pre></details>" if text else ""
