"""``skillnet inspect``: a model's parameters and FLOPs, in all and as its tasks activate them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.checkpoint import choose_checkpoint
from skillnet_cli.cli.options import AsJson, Checkpoint, Data, Overrides
from skillnet_cli.cli.output import print_json, print_table
from skillnet_cli.plugins import load_registry


def inspect(
    checkpoint: Checkpoint = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Inspect the model that a recipe would train: a file, or a shipped one's name.", show_default=False
        ),
    ] = None,
    set_: Overrides = None,
    task: Annotated[str | None, typer.Option(help="Only what this task activates.", show_default=False)] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Count a model's parameters and the FLOPs of a forward pass.

    By part, in total, and as each task activates them. A recipe needs neither sets nor vocabularies, if it says
    vocab_size; the heads of tasks whose labels are not known yet are listed instead of counted.

    FLOPs are two for a multiplication with its addition, of one item as long as the model takes in each of a task's
    towers, without heads; in total, of one such item of every skill.

    \b
    Examples:
      skillnet inspect
      skillnet inspect --recipe recipes/paper.toml
      skillnet inspect --recipe recipes/paper.toml --task t2i --json
      skillnet inspect --recipe recipes/paper.toml --set model.routing=moe
    """
    from skillnet_cli.model.folder import read_config
    from skillnet_cli.model.summary import summarise

    if recipe is not None:
        where, (config, unknown) = {"recipe": str(recipe)}, sketch(recipe, set_ or [], data or [])
    else:
        if set_:
            raise UserError("--set changes a recipe: name it with --recipe")
        folder = choose_checkpoint(checkpoint)
        where, (config, unknown) = {"checkpoint": str(folder)}, (read_config(folder), {})
    if task is not None and task not in (config.tasks or {}):
        load_registry().task(task)  # says what to install, or which name is near
        raise UserError(f"{recipe or folder} has no task '{task}'; it has {', '.join(config.tasks or {})}")
    facts = where | summarise(config, unknown, task)
    if as_json:
        return print_json(facts)
    print_facts(facts)


def sketch(path: Path, changes: list[str], data: list[Path]) -> tuple[Any, dict[str, str]]:
    """The configuration of the model that a recipe trains, and the tasks whose labels are not known yet."""
    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.engine.forecasting.sketch import sketch_model
    from skillnet_cli.recipe import load_recipe
    from skillnet_cli.recipe.shipped import find_recipe

    registry = load_registry()
    return sketch_model(load_recipe(find_recipe(path), changes, registry), registry, data_roots(data))


def print_facts(facts: dict[str, Any]) -> None:
    """Print what a model consists of."""
    print(facts.get("recipe") or facts["checkpoint"])
    print(", ".join(f"{key} {value}" for key, value in facts["encoder"].items()))
    parameters, flops = facts["parameters"], facts["flops"]
    rows = [("", "parameters", "forward FLOPs", "")]
    if "task" not in facts:
        rows.append(_row("total", parameters["total"], flops["total"], "one longest item of every skill"))
        parts = parameters["parts"].items()
        rows += [_row(part, count, flops["parts"].get(part, 0)) for part, count in parts]
    for name, each in facts["tasks"].items():
        rows.append(_row(f"task {name}", each["activated"], each["flops"], f"activates {', '.join(each['skills'])}"))
        if "task" in facts:
            rows += [_row(part, own["parameters"], own["flops"]) for part, own in each["parts"].items()]
    print_table(rows)
    for name, reason in facts["unknown_heads"].items():
        print(f"the head of {name} is not counted: {reason}")


def _row(what: str, parameters: int, flops: int | None, remark: str = "") -> tuple[str, str, str, str]:
    done = "not known" if flops is None else f"{flops / 1e9:9.2f} G" if flops else "        -"
    return what, f"{parameters / 1e6:9.3f} M", done, remark
