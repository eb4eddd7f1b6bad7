"""What the commands share: groups, options, completion, printing."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class Group(TyperGroup):
    """Several commands behind one word: prints its help where none is named, and lists them under their panels."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Ask for help where nothing is given; completion (``resilient_parsing``) is left alone."""
        return super().parse_args(ctx, args or ([] if ctx.resilient_parsing else ["--help"]))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the first sentence of each command's help, in full."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None) or "Commands"
            panels.setdefault(panel, []).append((name, command.get_short_help_str(limit=200)))
        width = max(map(len, self.commands))
        for panel, rows in sorted(panels.items(), key=lambda each: _panel_order(each[0])):
            with formatter.section(panel):
                formatter.write_dl([(name.ljust(width), help_) for name, help_ in rows])


PANELS = ("Prepare data", "Train", "Measure", "Use a model", "Models and plugins")
"""What ``skillnet --help`` lists the commands under, in the order in which a project comes to them."""


def _panel_order(panel: str) -> int:
    return PANELS.index(panel) if panel in PANELS else len(PANELS)


def complete(kind: str) -> Callable[[str], list[str]]:
    """The shell completion of a parameter: the names of a kind that begin as what was typed.

    Args:
        kind: ``datasets`` (that plugins prepare), ``sets`` (that are prepared), ``tasks``, ``skills`` or ``recipes``.
    """

    def names(incomplete: str) -> list[str]:
        return sorted({name for name in _names(kind) if name.startswith(incomplete)})

    return names


def _names(kind: str) -> Iterable[str]:
    if kind == "sets":
        from skillnet_cli.data.format import MANIFEST
        from skillnet_cli.data.prepared import data_roots

        return (path.parent.name for root in data_roots() for path in root.glob(f"*/{MANIFEST}"))
    if kind == "recipes":
        from skillnet_cli.recipe.load import shipped_recipes

        return shipped_recipes()

    from skillnet_cli.plugins import load_registry

    registry = load_registry()
    if kind == "datasets":
        datasets = [owned.value for owned in registry.datasets.values()]
        return (name for each in datasets for name in (each.name, each.part_of) if name)
    return {"tasks": registry.tasks, "skills": registry.modalities}[kind]


Checkpoint = Annotated[
    Path | None,
    typer.Option(
        envvar="SKILLNET_CHECKPOINT",
        show_default=False,
        help="The model's folder, or a hub repository OWNER/NAME. Default: the newest runs/*/model.",
    ),
]
NewModel = Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder of the new model.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Data = Annotated[
    list[Path] | None,
    typer.Option(
        show_default=False, help="Look for prepared sets in this folder first, then in SKILLNET_DATA and ./data."
    ),
]
PreparedName = Annotated[
    str,
    typer.Argument(metavar="PREPARED", help="A prepared set: its name or its folder.", autocompletion=complete("sets")),
]
RecipeFile = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE", help="A TOML file, or the name of a shipped recipe.", autocompletion=complete("recipes")
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated.", show_default=False),
]


def print_json(document: Any) -> None:
    """Print one JSON document on standard output, escaped where the terminal is not UTF-8."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(document, ensure_ascii=not unicode, indent=2))


def remark(text: str) -> None:
    """Print a line on standard error: what is not the answer."""
    print(f"skillnet: {text}", file=sys.stderr)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with their columns aligned; wide characters count twice."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
