"""``skillnet recipes copy``: a shipped recipe to start one's own from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.options import RecipeFile
from skillnet_cli.cli.output import remark
from skillnet_cli.data.files import write_whole
from skillnet_cli.recipe.shipped import find_recipe


def recipes_copy(
    recipe: RecipeFile,
    to: Annotated[Path, typer.Option(metavar="PATH", help="A folder, or the new file.")] = Path("."),
) -> None:
    """Copy a recipe, comments and all; a file that is there already stays as it is.

    \b
    Examples:
      skillnet recipes copy demo
      skillnet recipes copy paper --to recipes/mine.toml
    """
    source = find_recipe(recipe)
    if not source.is_file():
        raise UserError(f"there is no recipe {source}")
    target = to / source.name if to.is_dir() else to
    if target.exists():
        raise UserError(f"{target} is there already: name another file with --to")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, source.read_bytes())
    remark(f"wrote {target}")
