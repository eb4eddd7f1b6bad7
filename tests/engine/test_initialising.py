"""A stage that starts from a pretrained model: what is filled, what is written down, when it is used."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from skillnet_cli.api import UserError
from skillnet_cli.engine.plan import plan_stage
from skillnet_cli.engine.setup import build_model
from skillnet_cli.model.init import InitReport, initialise
from skillnet_cli.plugins import load_registry
from tests.pretrained import save_toy, toy_tensors
from tests.workbench import World, tasks


def started(
    world: World, routing: str = "skill", **init: Any
) -> tuple[InitReport, dict[str, Tensor], dict[str, Tensor]]:
    """The report of ``[init]``, and the model's tensors before and after it."""
    plan = plan_stage(world.recipe(init=init, model__routing=routing), "finetune", load_registry(), world.roots)
    model, _ = build_model(plan, None, load_registry())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return initialise(model, plan.recipe.init, load_registry()), before, model.state_dict()


QKV, OUT = "encoder.blocks.0.attention.skills.letters.weight", "encoder.blocks.0.attention.out.weight"
TABLE = "embedders.letters.tokens.weight"


@pytest.mark.parametrize("prefix", ["", "toy."])
def test_tensors_go_where_the_plugin_says(world: World, prefix: str) -> None:
    tensors = toy_tensors()
    folder = save_toy(world.folder / "donor", {prefix + name: tensor for name, tensor in tensors.items()})
    report, before, after = started(world, letters=str(folder))
    expected = {QKV: torch.cat([tensors[x] for x in "qkv"]), OUT: tensors["out"], TABLE: tensors["table"]}
    for name, tensor in after.items():
        assert torch.equal(tensor, expected.get(name, before[name])), name
    letters = report.skills["letters"]
    assert {each.tensor: each.sources for each in letters.loaded} == {
        QKV: (f"{prefix}q", f"{prefix}k", f"{prefix}v"),
        OUT: (f"{prefix}out",),
        TABLE: (f"{prefix}table",),
    }
    assert letters.skipped == {f"{prefix}head": "the skill letters has no place for it"}
    assert set(report.newly_initialised) == set(after) - set(expected)


@pytest.mark.parametrize("routing", ["dense", "moe", "separate"])
def test_the_systems_of_comparison_start_too(world: World, routing: str) -> None:
    """The one projection of all starts from the donor; of separate tasks, every tower that the skill runs through."""
    tensors = toy_tensors()
    folder = save_toy(world.folder / "donor")
    report, before, after = started(world, routing, letters=str(folder))
    names = {each.tensor for each in report.skills["letters"].loaded}
    qkv, table = torch.cat([tensors[x] for x in "qkv"]), tensors["table"]
    wanted = {"attention.qkv.weight": qkv, "attention.out.weight": tensors["out"], "letters.tokens.weight": table}
    for name, tensor in after.items():
        expected = next((wanted[end] for end in wanted if name.endswith(end) and name in names), before[name])
        assert torch.equal(tensor, expected), name
    if routing == "separate":
        towers = {name.rpartition(".embedders.letters.")[0] for name in after if ".embedders.letters." in name}
        wanted_names = {name for name in after if name.endswith(tuple(wanted)) and ".blocks.1." not in name}
        assert names == {name for name in wanted_names if name.startswith(tuple(f"{tower}." for tower in towers))}
    else:
        assert names == {TABLE, QKV.replace("skills.letters", "qkv"), OUT}


def test_shared_parts_can_be_left_fresh(world: World) -> None:
    folder = save_toy(world.folder / "donor", norm="post")  # which does not matter to projections and embedders
    report, before, after = started(world, letters={"from": str(folder), "shared": False})
    assert torch.equal(after[OUT], before[OUT]) and not torch.equal(after[QKV], before[QKV])
    assert report.skills["letters"].skipped["out"] == "shared = false"


def test_two_skills_may_start_when_one_leaves_the_shared_parts(world: World) -> None:
    folder = save_toy(world.folder / "donor")
    report, _, after = started(world, letters=str(folder), marks={"from": str(folder), "shared": False})
    assert torch.equal(after[QKV], after[QKV.replace("letters", "marks")]) and set(report.skills) == {
        "letters",
        "marks",
    }


def test_a_tensor_of_another_shape_or_none_is_named(world: World) -> None:
    narrow = save_toy(world.folder / "narrow", toy_tensors() | {"out": torch.ones(16, 4)})
    with pytest.raises(UserError, match=r"init.letters: .*'out' has shape \(16, 4\), .* has \(16, 16\)"):
        started(world, letters=str(narrow))
    less = save_toy(world.folder / "less", {name: t for name, t in toy_tensors().items() if name != "v"})
    with pytest.raises(UserError, match=r"init\.letters: .*less has no tensor 'v'"):
        started(world, letters=str(less))
    other = save_toy(world.folder / "other", {"weights": torch.ones(3)})
    with pytest.raises(UserError, match=r"init\.letters: .*other has no tensor 'table': its weights do not match"):
        started(world, letters=str(other))


def test_a_run_starts_from_it_once(world: World) -> None:
    """The donor is needed at the first start alone; the report lies in the stage's folder."""
    folder = save_toy(world.folder / "donor")
    changes: dict[str, Any] = {"init": {"letters": str(folder)}, "finetune__tasks": tasks("sort", "match")}
    world.train(**changes, finetune__steps=4)
    written = json.loads((world.run() / "finetune" / "init.json").read_text())
    assert [each["tensor"] for each in written["skills"]["letters"]["loaded"]] == [TABLE, QKV, OUT]
    assert len(written["newly_initialised"]) > 20
    trained = world.losses()
    world.train("fresh", finetune__tasks=tasks("sort", "match"), finetune__steps=4)
    assert trained != world.losses("fresh") and not (world.run("fresh") / "finetune" / "init.json").exists()
    recipe = world.recipe(**changes, finetune__steps=4)
    folder.rename(world.folder / "gone")
    folder.mkdir()
    from skillnet_cli.engine.trainer import run_stage

    run_stage(recipe, "finetune", load_registry(), world.run(), world.roots)  # it has finished: nothing is opened


def test_what_was_pretrained_is_not_started_again(world: World) -> None:
    folder = save_toy(world.folder / "donor")
    changes: dict[str, Any] = {"init": {"letters": str(folder)}, "finetune__start_from": "pretrain"}
    world.train(stage="pretrain", pretrain__steps=2, **changes)
    world.train(finetune__steps=2, finetune__tasks=tasks("sort"), pretrain__steps=2, **changes)
    assert (world.run() / "pretrain" / "init.json").is_file()
    assert not (world.run() / "finetune" / "init.json").exists()


def test_another_init_is_another_run(world: World) -> None:
    first, second = save_toy(world.folder / "first"), save_toy(world.folder / "second")
    settings: dict[str, Any] = {"finetune__steps": 4, "finetune__tasks": tasks("sort")}
    world.train(init={"letters": str(first)}, **settings)
    with pytest.raises(UserError, match=r"init\.letters: was .*first', is now .*second'"):
        world.train(init={"letters": str(second)}, **settings)
