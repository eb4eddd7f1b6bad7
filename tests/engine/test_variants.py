"""Every routing trained with the toy tasks, and where separate tasks start."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from skillnet_cli.api import UserError
from skillnet_cli.engine.loader import StepDataset
from skillnet_cli.engine.plan import plan_stage
from skillnet_cli.engine.setup import build_model
from skillnet_cli.model.parts import part_of
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry
from tests.engine.test_train import ALONE, checkpoint_tensors, snapshot, start
from tests.workbench import TASKS, World, tasks

ROUTINGS: dict[str, dict[str, Any]] = {
    "dense": {"model__routing": "dense"},
    "moe": {"model__routing": "moe", "model__balance": 0.1},
    "separate": {"model__routing": "separate"},
    "multiway": {"model__routed": ["qkv", "out", "ffn", "norm"]},
}


@pytest.mark.parametrize("name", ROUTINGS)
def test_every_routing_learns_and_leaves_other_parts_bit_for_bit(world: World, name: str) -> None:
    """Weight decay and momentum run; the losses of the last updates are below those of the first."""
    settings: dict[str, Any] = {"finetune__steps": 36, "train__optimizer": {"weight_decay": 0.1}}
    plan, updater = start(world, **settings, finetune__schedule="constant", **ROUTINGS[name])
    dataset = StepDataset.of(plan, load_registry(), ALONE)
    losses: dict[str, list[float]] = {task: [] for task in TASKS}
    for step in range(36):
        before = snapshot(updater)
        outcome = updater.update(dataset[step])
        losses[outcome.task].append(outcome.loss)
        active = updater.model.activated_parts(outcome.task)
        for key, tensor in snapshot(updater).items():
            moved = key not in before or not torch.equal(tensor, before[key])
            assert not moved or part_of(key.partition("/")[0]) in active, (outcome.task, key)
    assert sum(row[-1] for row in losses.values()) < 0.95 * sum(row[0] for row in losses.values())


@pytest.mark.parametrize("name", ROUTINGS)
def test_every_routing_is_measured_and_loads(world: World, name: str) -> None:
    world.train(finetune__steps=2, finetune__eval={"every": 2, "items": 4}, **ROUTINGS[name])
    assert {row["task"] for row in world.rows("eval")} == set(TASKS)
    model = SkillNet.from_pretrained(world.run() / "model", registry=load_registry())
    saved = checkpoint_tensors(world, 2)
    assert all(torch.equal(tensor, saved[key]) for key, tensor in model.state_dict().items())


def test_a_task_is_trained_as_if_alone_where_all_are_separate(world: World) -> None:
    """Its own data, its own parameters: what the other tasks of a block do cannot be seen in its losses."""
    settings: dict[str, Any] = {"model__routing": "separate", "finetune__schedule": "constant", "finetune__warmup": 0}
    world.train(run="both", finetune__steps=8, finetune__tasks=tasks("sort", "fill"), **settings)
    plan, updater = start(world, finetune__steps=8, finetune__tasks=tasks("sort", "fill"), **settings)
    dataset = StepDataset.of(plan, load_registry(), ALONE)
    alone = [updater.update(batch).loss for batch in map(dataset.__getitem__, range(8)) if batch[0].task == "sort"]
    assert alone == [loss for task, loss in world.losses("both") if task == "sort"]


def test_separate_tasks_start_from_the_pretraining_of_their_skills(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """sort reads letters as fill does, spell waves as units does; pair goes on from itself; match has no like."""
    settings: dict[str, Any] = {
        "model__routing": "separate",
        "pretrain__steps": 3,
        "pretrain__tasks": tasks("fill", "units", "pair"),
        "finetune__start_from": "pretrain",
        "finetune__steps": 1,
        "finetune__lr": 1e-30,
    }
    world.train(stage="pretrain", **settings)
    capsys.readouterr()
    world.train(**settings)
    assert "  started: sort from fill, spell from units, match newly initialised\n" in capsys.readouterr().err
    before, after = checkpoint_tensors(world, 3, stage="pretrain"), checkpoint_tensors(world, 1)
    for task, ancestor in {"sort": "fill", "spell": "units", "pair": "pair"}.items():
        towers = [name for name in before if name.startswith(f"tasks.{ancestor}.towers.")]
        assert towers
        for name in towers:
            mine = after[name.replace(f"tasks.{ancestor}.", f"tasks.{task}.")]
            torch.testing.assert_close(mine, before[name], rtol=0, atol=1e-20, msg=name)
    fresh = [name for name in before if name.startswith(("tasks.match.", "tasks.sort.heads."))]
    for name in fresh:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-20, msg="untouched by pretraining")


def test_one_tower_of_two_skills_starts_two_towers(world: World) -> None:
    """pair reads letters and marks together and starts both towers of mirror, as code-mlm does for t2c."""
    settings: dict[str, Any] = {
        "model__routing": "separate",
        "pretrain__steps": 1,
        "pretrain__tasks": tasks("fill", "pair"),
        "finetune__tasks": tasks("mirror", "match"),
        "finetune__start_from": "pretrain",
    }
    world.train(stage="pretrain", **settings)
    plan = plan_stage(world.recipe(**settings), "finetune", load_registry(), world.roots)
    assert plan.weight_inheritance() == {"mirror": ("pair", (0, 0))}
    model, _ = build_model(plan, world.run() / "pretrain" / "model", load_registry())
    (both,), towers = model.towers_of("pair"), model.towers_of("mirror")
    for tower, skill in zip(towers, ("letters", "marks"), strict=True):
        same = [(tower.encoder, both.encoder), (tower.embedders[skill], both.embedders[skill])]
        for one, other in same:
            assert all(torch.equal(one.state_dict()[key], value) for key, value in other.state_dict().items())


@pytest.mark.parametrize("name", ["dense", "moe", "multiway"])
def test_other_models_share_what_was_pretrained(world: World, name: str) -> None:
    settings: dict[str, Any] = {**ROUTINGS[name], "pretrain__steps": 2, "finetune__start_from": "pretrain"}
    world.train(stage="pretrain", **settings)
    world.train(**settings, finetune__steps=1, finetune__lr=1e-30)
    before, after = checkpoint_tensors(world, 2, stage="pretrain"), checkpoint_tensors(world, 1)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-20)


def test_a_mixture_of_one_is_refused_before_the_first_step(world: World) -> None:
    with pytest.raises(UserError, match=r"^model.routing = 'moe' has an expert for each skill and needs 2"):
        world.train(model__routing="moe", pretrain=None, finetune__tasks=tasks("sort"))
