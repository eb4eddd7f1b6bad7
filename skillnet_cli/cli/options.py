"""Options that several verbs share. ``Optional`` because typer reads annotations at run time, on Python 3.10 too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
