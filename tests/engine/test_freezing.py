"""Frozen parts stay as they are to the bit, cost no gradient, and are named rightly or not at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from skillnet_cli.api import UserError
from skillnet_cli.engine.loader import StepDataset
from skillnet_cli.engine.setup import freeze
from skillnet_cli.model.parts import part_of
from skillnet_cli.plugins import load_registry
from tests.engine.test_train import ALONE, checkpoint_tensors, snapshot, start
from tests.workbench import World, tasks

FROZEN = ["shared", "skill:letters", "embedder:waves", "task:fill", "task:sort"]
PARTS = {"shared", "skill:letters", "embedder:waves", "task:tokens-letters", "task:sort"}
"""fill's head is that of the letters' tokens, which pair uses as well."""


def test_frozen_parts_stay_bit_for_bit_and_have_no_gradient(world: World) -> None:
    plan, updater = start(world, finetune__steps=18, train__optimizer={"weight_decay": 0.5})
    freeze(updater.model, FROZEN, plan.tasks)
    before = snapshot(updater)
    dataset = StepDataset.of(plan, load_registry(), ALONE)
    for step in range(18):
        updater.update(dataset[step])
        for name, parameter in updater.model.named_parameters():
            assert part_of(name) not in PARTS or parameter.grad is None, name
    after = snapshot(updater)
    still = {name for name in before if torch.equal(after[name], before[name])}
    assert {name for name in before if part_of(name) in PARTS} == still
    assert not {name for name in after if "/" in name and part_of(name.partition("/")[0]) in PARTS}


def test_what_is_frozen_later_keeps_its_momentum_unused(world: World) -> None:
    """Moments of earlier updates and weight decay do not move a part that has been frozen since."""
    plan, updater = start(world, finetune__steps=12, train__optimizer={"weight_decay": 0.5})
    dataset = StepDataset.of(plan, load_registry(), ALONE)
    for step in range(6):
        updater.update(dataset[step])
    freeze(updater.model, FROZEN, plan.tasks)
    updater.optimizer.zero_grad(set_to_none=True)
    before = snapshot(updater)
    assert any(part_of(name.partition("/")[0]) == "shared" for name in before if "/exp_avg" in name)
    for step in range(6, 12):
        updater.update(dataset[step])
    for name, tensor in snapshot(updater).items():
        if part_of(name.partition("/")[0]) in PARTS:
            assert torch.equal(tensor, before[name]), name


def test_a_stage_may_freeze_what_train_does_not(world: World) -> None:
    recipe = world.recipe(train__freeze=["shared"], finetune__freeze=["skill:letters"])
    assert recipe.pretrain is not None and recipe.finetune is not None
    assert (recipe.pretrain.freeze, recipe.finetune.freeze) == (("shared",), ("skill:letters",))


def test_a_whole_training_keeps_frozen_parts_and_says_so(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    settings: dict[str, Any] = {"train__freeze": FROZEN, "finetune__steps": 6}
    _, updater = start(world, **settings)
    world.train(**settings)
    trained = sum(p.numel() for n, p in updater.model.named_parameters() if part_of(n) not in PARTS)
    said = f"  frozen: {', '.join(FROZEN)}; {trained / 1e6:.1f} M parameters train\n"
    assert said in capsys.readouterr().err
    after = checkpoint_tensors(world, 6)
    moved = {part_of(name) for name, tensor in snapshot(updater).items() if not torch.equal(tensor, after[name])}
    assert moved and not moved & PARTS


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["skill:leters"], "freeze: the model has no part 'skill:leters': did you mean 'skill:letters'?"),
        (
            ["shared", "skill:letters", "embedder:letters", "task:sort"],
            "freeze: nothing is left to train for task 'sort': ",
        ),
    ],
)
def test_what_cannot_be_frozen_is_one_line(world: World, parts: list[str], message: str) -> None:
    _, updater = start(world, finetune__tasks=tasks("sort"))
    with pytest.raises(UserError) as caught:
        freeze(updater.model, parts, ["sort"])
    assert str(caught.value).startswith(message)


def test_a_task_with_nothing_to_train_is_refused_before_the_first_step(world: World) -> None:
    with pytest.raises(UserError, match="nothing is left to train for task 'sort'"):
        world.train(model__routing="separate", train__freeze=["task:sort"])
    assert not (world.run() / "finetune" / "metrics.jsonl").exists()


def test_a_task_stands_for_all_its_heads(world: World) -> None:
    _, updater = start(world)
    assert updater.model.head_parts("pair") == ("task:tokens-letters", "task:tokens-marks")
    freeze(updater.model, ["task:pair"], ["sort"])
    frozen = {part_of(name) for name, p in updater.model.named_parameters() if not p.requires_grad}
    assert frozen == {"task:tokens-letters", "task:tokens-marks"}
