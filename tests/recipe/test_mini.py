"""``recipes/mini.toml`` is ``paper.toml`` in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
SMALLER = 16


def load(name: str) -> Recipe:
    return load_recipe(RECIPES / f"{name}.toml", registry=load_registry())


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_tasks_sets_and_ratios_are_the_papers_and_batches_a_sixteenth(stage: str) -> None:
    mini, paper = (load(name).stages()[stage].tasks for name in ("mini", "paper"))
    assert list(mini) == list(paper)
    for name, task in paper.items():
        assert mini[name].datasets == task.datasets and mini[name].ratio == task.ratio
        assert mini[name].batch * SMALLER == task.batch


def test_the_model_differs_in_sizes_alone() -> None:
    mini, paper = load("mini").model, load("paper").model
    same = {"norm", "activation", "routing", "routed", "dropout"}
    assert {key: getattr(mini, key) for key in same} == {key: getattr(paper, key) for key in same}
    assert {skill: set(keys) - {"vocab_size", "channels"} for skill, keys in mini.embedders.items()} == {
        skill: set(keys) - {"vocab_size", "channels"} for skill, keys in paper.embedders.items()
    }


def test_every_set_and_vocabulary_has_its_command() -> None:
    """What the head of the file says to type makes all that the recipe names."""
    head = (RECIPES / "mini.toml").read_text(encoding="utf-8").split("\nname =")[0]
    commands = [line.lstrip("# ").split() for line in head.splitlines() if line.startswith("#   skillnet prepare ")]
    made = {command[command.index("--out") + 1] if "--out" in command else f"data/{command[2]}" for command in commands}
    recipe = load("mini")
    sets = {
        f"data/{name}" for stage in recipe.stages().values() for task in stage.tasks.values() for name in task.datasets
    }
    vocabularies = {str(keys["vocab"]) for keys in recipe.model.embedders.values() if "vocab" in keys}
    assert sets | vocabularies <= made
