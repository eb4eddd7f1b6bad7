"""What the commands share: groups, options, completion, printing."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperArgument, TyperGroup

from skillnet_cli.terminal import print_error, print_json, print_line, remark
from skillnet_cli.untrusted import printable

__all__ = ["print_error", "print_json", "print_line", "remark"]


class Group(TyperGroup):
    """Several commands behind one word: prints its help where none is named, and lists them under their panels."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Ask for help where nothing is given; completion (``resilient_parsing``) is left alone."""
        return super().parse_args(ctx, args or ([] if ctx.resilient_parsing else ["--help"]))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command, whose options say what they take as other command lines do: ``INTEGER``, not ``<int range>``."""
        command = super().get_command(ctx, cmd_name)
        for parameter in command.params if command else ():
            name_value(parameter)
        return command

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


_VALUES = {"int": "INTEGER", "float": "NUMBER", "str": "TEXT", "Path": "PATH"}


def name_value(parameter: Any) -> None:
    """Name what an option takes by its type, where its author has not named it; an argument's name says it already."""
    if isinstance(parameter, TyperArgument):
        parameter.display_type = lambda ctx: ""  # type: ignore[method-assign]
    elif parameter.metavar is None and not parameter.is_flag and not parameter.type_descriptor.is_choice:
        annotation = parameter.type_descriptor.annotation
        inner = (get_args(annotation) or (annotation,))[0]
        parameter.metavar = _VALUES.get(inner.__name__)


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


class PrecisionName(str, Enum):
    """What a model computes in."""

    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


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


Device = Annotated[
    str | None,
    typer.Option(help="What to compute on: cpu, cuda, cuda:1, mps.", show_default="a GPU where there is one"),
]
Precision = Annotated[
    PrecisionName,
    typer.Option(help="What to compute in; auto is bf16 on GPUs that have it, fp32 on CPUs.", show_default=True),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1 << 16,
        help="Items that the model computes at a time; more take more memory.",
        show_default="by their tokens",
    ),
]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with their columns aligned; wide characters count twice.

    A table that is wider than the terminal has its cells folded; into a pipe, every row is one line.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*shown, strict=True)]
    if (space := _space()) and sum(widths) + _GAP * (len(widths) - 1) > space:
        return _print_folded(shown, space)
    for row in shown:
        cells = [cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        print_line((" " * _GAP).join(cells).rstrip())


def shorten_last(rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Rows whose last column, a text, is made as short as the line has room for beside the others."""
    others = sum(max(_width(row[place]) + _GAP for row in rows) for place in range(len(rows[0]) - 1))
    room = max((_space() or WIDTH) - others, _SHORTEST)
    return [(*first, _shortened(" ".join(text.split()), room)) for *first, text in rows]


_SHORTEST = 24
"""Characters that a shortened text has at least; a narrower line is folded."""


def _shortened(text: str, room: int) -> str:
    if _width(text) <= room:
        return text
    while _width(text) >= room:
        text = text[: min(len(text) - 1, room)]
    return text.rstrip() + "…"


_GAP = 2
"""Blanks between two columns."""


def _space() -> int | None:
    """How many characters a line may have; None where no terminal shows it."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _print_folded(rows: Sequence[Sequence[str]], space: int) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=False)
    for number in range(len(rows[0])):
        table.add_column(overflow="fold", no_wrap=number == 0 and _is_short(rows, space))
    for row in rows:
        table.add_row(*map(Text, row))
    print_layout(table)


WIDTH = 100
"""Characters of a line in a layout that no terminal shows."""


def print_layout(layout: Any) -> None:
    """Print a table of rich's. Rich lays it out; its lines are printed as all others are."""
    from rich.console import Console

    console = Console(width=_space() or WIDTH, color_system=None, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(layout)
    for line in captured.get().splitlines():
        print_line(line.rstrip())


def _is_short(rows: Sequence[Sequence[str]], space: int) -> bool:
    """Whether the first column, a row's name, can stay in one piece."""
    return max(_width(row[0]) for row in rows) <= space // 3


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
