"""What the commands share: options, completion, printing."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Checkpoint = Annotated[
    Path | None,
    typer.Option(
        envvar="SKILLNET_CHECKPOINT",
        show_default=False,
        help="The model's folder, or a hub repository owner/name; without it the newest runs/*/model.",
    ),
]
NewModel = Annotated[Path, typer.Option("--to", metavar="DIR", help="The new model's folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Data = Annotated[
    list[Path] | None,
    typer.Option(show_default=False, help="Look here for prepared sets first, then in SKILLNET_DATA, then in data."),
]
RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="The recipe: a TOML file, or the name of a shipped one.")
]
Runs = Annotated[Path, typer.Option(help="The folder of runs.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated.", show_default=False),
]


def print_json(document: Any) -> None:
    """Print one JSON document on standard output, in characters that it can show."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(document, ensure_ascii=not unicode, indent=2))


def remark(text: str) -> None:
    """Print a line on standard error."""
    print(f"skillnet: {text}", file=sys.stderr)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with their columns aligned; wide characters count twice."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def dataset_names(incomplete: str) -> list[str]:
    """Data sets, and the names that several are part of."""
    from skillnet_cli.plugins import load_registry

    datasets = [owned.value for owned in load_registry().datasets.values()]
    return _beginning(incomplete, {name for each in datasets for name in (each.name, each.part_of) if name})


def task_names(incomplete: str) -> list[str]:
    """Tasks."""
    from skillnet_cli.plugins import load_registry

    return _beginning(incomplete, set(load_registry().tasks))


def skill_names(incomplete: str) -> list[str]:
    """Skills."""
    from skillnet_cli.plugins import load_registry

    return _beginning(incomplete, set(load_registry().modalities))


def _beginning(incomplete: str, names: set[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
