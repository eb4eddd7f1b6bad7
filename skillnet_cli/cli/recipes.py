"""``skillnet recipes``: the recipes that come with skillnet, and one's own."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.common import (
    AsJson,
    Group,
    Overrides,
    RecipeFile,
    complete,
    print_json,
    print_line,
    print_table,
    remark,
)
from skillnet_cli.files import write_whole
from skillnet_cli.plugins import load_registry

app = typer.Typer(cls=Group, help="The recipes that come with skillnet, and your own.")


@app.command("list")
def list_recipes(as_json: AsJson = False) -> None:
    """List the recipes that come with skillnet.

    Their names can be used wherever a recipe is expected.

    \b
    Example:
      skillnet recipes list
    """
    from skillnet_cli.recipe import load_recipe
    from skillnet_cli.recipe.load import shipped_recipes

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "path": str(path),
            "purpose": _purpose(path),
            "stages": {stage: list(section.tasks) for stage, section in load_recipe(path).stages().items()},
        }
        for name, path in shipped_recipes().items()
    ]
    if as_json:
        return print_json({"recipes": rows})
    if not rows:
        return print_line("this installation has no recipes")
    for row in rows:
        print_line(f"{row['name']}: {row['purpose']}")
        print_table([("", stage, ", ".join(tasks)) for stage, tasks in row["stages"].items()])


def _purpose(path: Path) -> str:
    """The first sentence of the comment at the head of a recipe."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return " ".join(line.lstrip("# ") for line in lines).split(". ")[0].rstrip(".")


@app.command("show")
def show(
    recipe: RecipeFile,
    set_: Overrides = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Write out every default.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print a recipe as it is written; with --set, --resolved or --json, as it will be trained.

    \b
    Examples:
      skillnet recipes show paper
      skillnet recipes show paper --set model.routing=moe
      skillnet recipes show mine.toml --resolved
    """
    import tomli_w

    from skillnet_cli.recipe import load_recipe
    from skillnet_cli.recipe.load import find_recipe

    path = find_recipe(recipe)
    if not (set_ or resolved or as_json):
        load_recipe(path)  # raises where the recipe is wrong
        return print_line(path.read_text(encoding="utf-8-sig"), end="")
    document = load_recipe(path, set_ or (), load_registry()).model_dump(mode="json", exclude_none=True)
    if as_json:
        return print_json(document)
    print_line(tomli_w.dumps(document), end="")


@app.command("check")
def check(
    recipes: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECIPE...", help="Files, or names of shipped recipes.", autocompletion=complete("recipes")
        ),
    ],
    set_: Overrides = None,
) -> None:
    """List everything that is wrong with recipes, with file, line and key.

    Keys, values, tasks, plugins and pretrained models are checked; --plan checks data too. The exit code is 2 if
    anything is wrong.

    \b
    Examples:
      skillnet recipes check mine.toml
      skillnet recipes check recipes/*.toml --set model.norm=post
    """
    from skillnet_cli.recipe import load_recipe
    from skillnet_cli.recipe.load import find_recipe

    wrong = []
    for recipe in recipes:
        try:
            loaded = load_recipe(find_recipe(recipe), set_ or (), load_registry())
        except UserError as error:
            wrong.append(str(error))
        else:
            stages = (f"{name} of {', '.join(stage.tasks)}" for name, stage in loaded.stages().items())
            print_line(f"{recipe}: no mistakes; {'; '.join(stages)}")
    if wrong:
        raise UserError("\n".join(wrong))


@app.command("copy")
def copy(
    recipe: RecipeFile,
    to: Annotated[Path, typer.Option(metavar="PATH", help="A folder, or the name of the new file.")] = Path(),
) -> None:
    """Copy a recipe with its comments; an existing file is never overwritten.

    \b
    Examples:
      skillnet recipes copy demo
      skillnet recipes copy paper --to recipes/mine.toml
    """
    from skillnet_cli.recipe.load import find_recipe

    source = find_recipe(recipe)
    if not source.is_file():
        raise UserError(f"no recipe {source}")
    target = to / source.name if to.is_dir() else to
    if target.exists():
        raise UserError(f"{target} already exists: name another file with --to")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, source.read_bytes())
    remark(f"wrote {target}")
