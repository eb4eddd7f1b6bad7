"""``skillnet inspect``: a model's parameters, in all and as its tasks activate them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.cli.checkpoint import choose_checkpoint
from skillnet_cli.cli.options import AsJson, Checkpoint, Data
from skillnet_cli.cli.output import print_json, print_table
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.model.config import SkillNetConfig


def inspect(
    checkpoint: Checkpoint = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Inspect the model that a recipe would train.", show_default=False)
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Count a model's parameters.

    By part, in total, and as each task activates them.

    \b
    Examples:
      skillnet inspect
      skillnet inspect --recipe recipes/demo.toml --json
    """
    from skillnet_cli.model.folder import read_config

    if recipe is not None:
        facts = {"recipe": str(recipe), **describe(config_of_recipe(recipe, data or []))}
    else:
        folder = choose_checkpoint(checkpoint)
        facts = {"checkpoint": str(folder), **describe(read_config(folder))}
    if as_json:
        return print_json(facts)
    print_facts(facts)


def config_of_recipe(path: Path, data: list[Path]) -> SkillNetConfig:
    """The configuration of the model that a recipe trains; its sets must be prepared, for their labels."""
    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.engine.plan import plan_stage
    from skillnet_cli.recipe import load_recipe

    registry = load_registry()
    recipe = load_recipe(path, registry=registry)
    return plan_stage(recipe, next(iter(recipe.stages())), registry, data_roots(data)).config


def describe(config: SkillNetConfig) -> dict[str, Any]:
    """Sizes, skills, and parameters; the model is built without memory for its weights."""
    import torch

    from skillnet_cli.model.count import activated_parameters, parameters_by_part
    from skillnet_cli.model.skillnet import SkillNet

    with torch.device("meta"):
        model = SkillNet(config)
    parts = parameters_by_part(model)
    return {
        "encoder": {key: getattr(config, key) for key in ("layers", "hidden", "heads", "ffn", "norm", "activation")},
        "skills": {
            name: {key: facts[key] for key in ("plugin", "version")} for name, facts in (config.skills or {}).items()
        },
        "parameters": {"total": sum(parts.values()), "parts": parts},
        "tasks": {
            task: {"activated": activated_parameters(model, task), "skills": list(config.task(task).skills)}
            for task in config.tasks or {}
        },
    }


def print_facts(facts: dict[str, Any]) -> None:
    """Print what a model consists of."""
    print(facts.get("recipe") or facts["checkpoint"])
    print(", ".join(f"{key} {value}" for key, value in facts["encoder"].items()))
    total = facts["parameters"]["total"]
    parts = [(part, millions(count), "") for part, count in facts["parameters"]["parts"].items()]
    tasks = [
        (f"task {name}", millions(task["activated"]), f"activates {', '.join(task['skills'])}")
        for name, task in facts["tasks"].items()
    ]
    print_table([("total", millions(total), ""), *parts, *tasks])


def millions(count: int) -> str:
    """A number of parameters in millions."""
    return f"{count / 1e6:10.3f} M"
