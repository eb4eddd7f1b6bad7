"""``skillnet recipes show``: a recipe as written, or as it will be trained."""

from __future__ import annotations

from typing import Annotated

import typer

from skillnet_cli.cli.options import AsJson, Overrides, RecipeFile
from skillnet_cli.cli.output import print_json
from skillnet_cli.plugins import load_registry


def recipes_show(
    recipe: RecipeFile,
    set_: Overrides = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="With every default written out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print a recipe as it is written, or with --set, --resolved or --json as it will be trained.

    \b
    Examples:
      skillnet recipes show paper
      skillnet recipes show paper --set model.routing=moe
      skillnet recipes show mine.toml --resolved
    """
    from skillnet_cli.recipe import dump_toml, load_recipe
    from skillnet_cli.recipe.shipped import find_recipe

    path = find_recipe(recipe)
    if not (set_ or resolved or as_json):
        load_recipe(path)  # says what is wrong with it
        return print(path.read_text(encoding="utf-8-sig"), end="")
    document = load_recipe(path, set_ or (), load_registry()).model_dump(mode="json", exclude_none=True)
    if as_json:
        return print_json(document)
    print(dump_toml(document), end="")
