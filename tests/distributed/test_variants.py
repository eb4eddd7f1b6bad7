"""Two processes learn what one learns, whatever the routing, and with parts of the model frozen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from skillnet_cli.engine.plan import plan_stage
from skillnet_cli.engine.setup import build_model
from skillnet_cli.model.parts import part_of
from skillnet_cli.plugins import load_registry
from tests.distributed.test_two_processes import _inactive_parts_stay, saved, train
from tests.engine.test_freezing import FROZEN, PARTS
from tests.engine.test_variants import ROUTINGS
from tests.workbench import World, tasks, toy_world

STEPS = 12
SETTINGS: dict[str, Any] = {
    "finetune__steps": STEPS,
    "finetune__tasks": {
        **tasks("sort", "fill", "units"),
        **tasks("spell", "pair", recompute=True),
        **tasks("match", micro_batch=2, recompute=True),
    },
    "train__checkpoints": {"every": 1, "keep": STEPS},
}
DECAY: dict[str, Any] = {"train__optimizer": {"weight_decay": 0.5}}


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with toy_world(tmp_path_factory.mktemp("variants")) as world:
        yield world


# Of the routings a mixture is the one whose ranks have most to agree on; the paper's own is test_two_processes.py's.
OTHERS = [("dense", "replicate"), ("moe", "replicate"), ("separate", "fsdp"), ("multiway", "fsdp")]


@pytest.mark.parametrize(
    ("routing", "strategy"), [("moe", "fsdp"), *(pytest.param(*each, marks=pytest.mark.soak) for each in OTHERS)]
)
def test_two_processes_learn_what_one_learns(shared_world: World, routing: str, strategy: str) -> None:
    """A mixture's balance is that of both processes' tokens; an expert that only one has chosen is not missed."""
    settings, one = {**SETTINGS, **DECAY, **ROUTINGS[routing]}, f"{routing}-one"
    if not shared_world.run(one).exists():
        shared_world.train(one, name=one, **settings)
    two = f"{routing}-{strategy}"
    train(shared_world, two, train__strategy=strategy, **settings)
    same_training(shared_world, one, two)
    _inactive_parts_stay(shared_world, two)


def test_two_processes_leave_frozen_parts_as_they_are(shared_world: World) -> None:
    settings = {**SETTINGS, **DECAY, "train__freeze": FROZEN}
    shared_world.train("frozen-one", name="frozen-one", **settings)
    train(shared_world, "frozen-two", train__strategy="fsdp", **settings)
    same_training(shared_world, "frozen-one", "frozen-two")
    plan = plan_stage(shared_world.recipe(**settings), "finetune", load_registry(), shared_world.roots)
    first = build_model(plan, None, load_registry())[0].state_dict()
    last = saved(shared_world, "frozen-two", STEPS, "model")
    still = {name for name, tensor in last.items() if torch.equal(tensor, first[name])}
    assert {name for name in first if part_of(name) in PARTS} == still
    moments = saved(shared_world, "frozen-two", STEPS, "optimizer")
    assert moments and not {name for name in moments if part_of(name.partition("/")[0]) in PARTS}


def same_training(world: World, one: str, two: str) -> None:
    """The same tasks and losses; the same parameters after the first update of every task."""
    losses = [[loss for _, loss in world.losses(run)] for run in (one, two)]
    assert [task for task, _ in world.losses(one)] == [task for task, _ in world.losses(two)]
    assert len(losses[0]) == STEPS and losses[1] == pytest.approx(losses[0], abs=1e-5)
    before, after = saved(world, one, 6, "model"), saved(world, two, 6, "model")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=1e-3, atol=1e-3, msg=name)
