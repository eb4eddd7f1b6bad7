"""``skillnet recipes list``: the recipes that come with skillnet."""

from __future__ import annotations

from typing import Any

from skillnet_cli.cli.options import AsJson
from skillnet_cli.cli.output import print_json, print_table


def recipes_list(as_json: AsJson = False) -> None:
    """List the recipes that come with skillnet.

    Their names stand for them wherever a recipe is asked for.

    \b
    Example:
      skillnet recipes list
    """
    from skillnet_cli.recipe import load_recipe
    from skillnet_cli.recipe.shipped import purpose, shipped_recipes

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "path": str(path),
            "purpose": purpose(path),
            "stages": {stage: list(section.tasks) for stage, section in load_recipe(path).stages().items()},
        }
        for name, path in shipped_recipes().items()
    ]
    if as_json:
        return print_json({"recipes": rows})
    if not rows:
        return print("none come with this installation")
    for row in rows:
        print(f"{row['name']}: {row['purpose']}")
        print_table([("", stage, ", ".join(tasks)) for stage, tasks in row["stages"].items()])
