"""Averages are those of the definition, belong to the saved state, and are what is measured and exported."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from skillnet_cli.api import UserError
from skillnet_cli.engine.checkpoint.format import AVERAGE, MODEL, Checkpoint
from skillnet_cli.engine.loader import StepDataset
from skillnet_cli.model.parts import part_of
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry
from tests.engine.test_train import ALONE, start
from tests.workbench import World, tasks

EMA: dict[str, Any] = {"train__average": {"kind": "ema", "decay": 0.7}}
LAST: dict[str, Any] = {"train__average": {"kind": "last", "count": 3}}


def saved(world: World, step: int, kind: str, run: str = "toy") -> dict[str, torch.Tensor]:
    return Checkpoint(world.run(run) / "finetune" / "checkpoints" / f"step-{step}", step).tensors(kind)


def exported(world: World, run: str = "toy") -> dict[str, torch.Tensor]:
    return SkillNet.from_pretrained(world.run(run) / "model", registry=load_registry()).state_dict()


def test_the_moving_average_is_that_of_the_updates_of_each_part(world: World) -> None:
    """Against its definition, written out in float64; parts that a task does not activate keep theirs to the bit."""
    plan, updater = start(world, **EMA, finetune__steps=12, finetune__tasks=tasks("sort", "spell", "match"))
    dataset = StepDataset.of(plan, load_registry(), ALONE)
    assert updater.average is not None
    expected = {name: parameter.detach().double() for name, parameter in updater.model.named_parameters()}
    for step in range(12):
        before = {name: tensor.clone() for name, tensor in updater.average.tensors.items()}
        active = updater.model.activated_parts(updater.update(dataset[step]).task)
        for name, parameter in updater.model.named_parameters():
            if part_of(name) in active:
                expected[name] = 0.7 * expected[name] + 0.3 * parameter.detach().double()
            else:
                assert torch.equal(updater.average.tensors[name], before[name]), name
    for name, tensor in updater.average.tensors.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-7)


def test_swapped_in_it_comes_and_goes_to_the_bit(world: World) -> None:
    plan, updater = start(world, **EMA, finetune__tasks=tasks("sort"))
    updater.update(StepDataset.of(plan, load_registry(), ALONE)[0])
    assert updater.average is not None
    raw = {name: parameter.detach().clone() for name, parameter in updater.model.named_parameters()}
    averages = {name: tensor.clone() for name, tensor in updater.average.tensors.items()}
    with updater.average.swapped_in():
        assert all(torch.equal(each, averages[name]) for name, each in updater.model.named_parameters())
    assert all(torch.equal(each, raw[name]) for name, each in updater.model.named_parameters())
    assert all(torch.equal(tensor, averages[name]) for name, tensor in updater.average.tensors.items())


def test_averages_are_exported_and_the_training_does_not_see_them(world: World) -> None:
    settings = {"finetune__tasks": tasks("sort", "fill"), "finetune__eval": {"every": 4, "items": 6}}
    world.train("plain", **settings)
    world.train("averaged", **settings, **EMA)
    assert world.losses("averaged") == world.losses("plain")
    raw, averages, model = (
        saved(world, 12, MODEL, "averaged"),
        saved(world, 12, AVERAGE, "averaged"),
        exported(world, "averaged"),
    )
    assert all(torch.equal(model[name], averages[name]) for name in averages)
    assert any(not torch.equal(model[name], raw[name]) for name in raw)
    figures = [[row["metrics"] for row in world.rows("eval", run)] for run in ("plain", "averaged")]
    assert figures[0] != figures[1]


def test_stopped_and_gone_on_averages_as_undisturbed(world: World) -> None:
    settings: dict[str, Any] = {**EMA, "finetune__tasks": tasks("sort", "match", "fill")}
    world.train("straight", **settings)
    shutil.copytree(world.run("straight"), world.run("stopped"))
    shutil.rmtree(world.run("stopped") / "finetune" / "model")
    shutil.rmtree(world.run("stopped") / "finetune" / "checkpoints" / "step-12")
    world.train("stopped", **settings)
    one, other = (saved(world, 12, AVERAGE, run) for run in ("straight", "stopped"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_mean_of_the_last_checkpoints_is_exported(world: World) -> None:
    """One that a signal asked for, in between, is not among them."""
    changes: dict[str, Any] = {**LAST, "finetune__tasks": tasks("sort"), "finetune__steps": 14}
    world.train(**changes)
    found = [saved(world, step, MODEL) for step in (8, 12, 14)]
    for name, tensor in exported(world).items():
        mean = torch.stack([each[name].double() for each in found]).mean(0)
        torch.testing.assert_close(tensor.double(), mean, rtol=1e-6, atol=1e-8)
    before = exported(world)
    _stop_after(world.run() / "finetune" / "checkpoints", 13)
    shutil.rmtree(world.run() / "finetune" / "model")
    world.train(**changes)
    assert all(torch.equal(tensor, before[name]) for name, tensor in exported(world).items())


def _stop_after(checkpoints: Path, step: int) -> None:
    shutil.copytree(checkpoints / "step-4", checkpoints / f"step-{step}", copy_function=os.link)


def test_frozen_parts_have_no_average_and_are_exported(world: World) -> None:
    world.train(**EMA, finetune__tasks=tasks("sort"), finetune__steps=2, train__freeze=["embedder:letters"])
    frozen = {name for name in exported(world) if part_of(name) == "embedder:letters"}
    assert frozen and not frozen & saved(world, 2, AVERAGE).keys()
    raw = saved(world, 2, MODEL)
    assert all(torch.equal(exported(world)[name], raw[name]) for name in frozen)


def test_more_than_are_kept_cannot_be_averaged(world: World) -> None:
    with pytest.raises(UserError, match=r"finetune\.average: 5 checkpoints are averaged and 2 are kept"):
        world.train(train__average={"kind": "last"}, train__checkpoints={"every": 2, "keep": 2})
