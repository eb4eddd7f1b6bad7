"""``skillnet recipes check``: everything that is wrong with recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.options import Overrides
from skillnet_cli.plugins import load_registry


def recipes_check(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...", help="Files, or names of shipped recipes.")],
    set_: Overrides = None,
) -> None:
    """Say everything that is wrong with one or several recipes, with file, line and key.

    Keys, values, tasks, plugins and pretrained models are looked at; data is what --plan looks at. The exit code is 2
    where anything is wrong.

    \b
    Examples:
      skillnet recipes check mine.toml
      skillnet recipes check recipes/*.toml --set model.norm=post
    """
    from skillnet_cli.recipe import load_recipe
    from skillnet_cli.recipe.shipped import find_recipe

    wrong = []
    for recipe in recipes:
        try:
            loaded = load_recipe(find_recipe(recipe), set_ or (), load_registry())
        except UserError as error:
            wrong.append(str(error))
        else:
            stages = (f"{name} of {', '.join(stage.tasks)}" for name, stage in loaded.stages().items())
            print(f"{recipe}: nothing wrong; {'; '.join(stages)}")
    if wrong:
        raise UserError("\n".join(wrong))
