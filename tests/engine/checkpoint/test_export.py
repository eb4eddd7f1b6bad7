"""A training checkpoint made into a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.cli.models import export
from skillnet_cli.engine.checkpoint.export import export_training
from skillnet_cli.engine.checkpoint.format import AVERAGE, MODEL, Checkpoint
from skillnet_cli.model.config import read_config
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry
from tests.workbench import World, tasks

SETTINGS: dict[str, Any] = {"finetune__steps": 6, "finetune__tasks": tasks("sort", "match")}


def checkpoint(world: World, step: int) -> Checkpoint:
    return Checkpoint(world.run() / "finetune" / "checkpoints" / f"step-{step}", step)


def same(folder: Path, tensors: dict[str, torch.Tensor]) -> bool:
    model = SkillNet.from_pretrained(folder, registry=load_registry()).state_dict()
    return all(torch.equal(tensor, tensors[name]) for name, tensor in model.items())


def test_a_checkpoint_becomes_the_model_that_the_run_exported(world: World) -> None:
    world.train(**SETTINGS)
    for step in (4, 6):
        export(to=world.folder / f"at-{step}", checkpoint=checkpoint(world, step).folder)
        assert same(world.folder / f"at-{step}", checkpoint(world, step).tensors(MODEL))
    files = [
        sorted(path.name for path in folder.iterdir()) for folder in (world.folder / "at-6", world.run() / "model")
    ]
    assert files[0] == files[1]


def test_a_part_of_it_with_averages(world: World) -> None:
    world.train(**SETTINGS, train__average={"kind": "ema", "decay": 0.5})
    part = export_training(checkpoint(world, 4).folder, world.folder / "part", load_registry(), None, ["sort"])
    assert list(part.config.tasks) == ["sort"] and list(part.config.skills) == ["letters"]
    assert same(world.folder / "part", checkpoint(world, 4).tensors(AVERAGE))
    assert sorted(path.name for path in world.folder.iterdir()) == ["data", "part", "runs", "toy.toml"]


def test_what_is_damaged_or_in_the_way_is_named(world: World) -> None:
    world.train(**SETTINGS)
    folder = checkpoint(world, 4).folder
    with pytest.raises(UserError, match="already exists"):
        export_training(folder, world.run() / "model", load_registry(), None, None)
    with pytest.raises(UserError, match=r"step-4: a checkpoint of a training: skillnet export --checkpoint .*step-4"):
        read_config(folder, load_registry())
    (folder / "model.safetensors").write_bytes(b"1")
    with pytest.raises(FailedJob, match=r"step-4 is not a complete checkpoint: model\.safetensors has 1 of"):
        export_training(folder, world.folder / "new", load_registry(), None, None)
