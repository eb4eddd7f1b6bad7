"""What any number of processes saved, any other number goes on from, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from skillnet_cli.engine.checkpoint.format import AVERAGE, MODEL, OPTIMIZER, Checkpoint, Checkpoints, Chunk, local_shard
from skillnet_cli.engine.distributed.mesh import process_group
from skillnet_cli.engine.plan import StagePlan, plan_stage
from skillnet_cli.engine.setup import build_model, open_writer, save_checkpoint, setup_training
from skillnet_cli.plugins import load_registry
from skillnet_cli.runs import StageFolder
from tests.ranks import run_ranks
from tests.workbench import TASKS, World, tasks, toy_world

STEPS = 12
LAYOUTS = [(2, "fsdp"), (4, "fsdp"), (1, "replicate"), (2, "replicate"), (3, "fsdp"), (1, "fsdp")]
"""One after another, each from what the one before it saved."""
SETTINGS: dict[str, Any] = {
    "finetune__steps": STEPS,
    "finetune__tasks": {**tasks(*TASKS, batch=12)},
    "train__average": {"kind": "ema", "decay": 0.9},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A training of every task, but one skill's, by one process: some moments are there and some are not."""
    with toy_world(tmp_path_factory.mktemp("resharded")) as world:
        world.train(run="one", **SETTINGS)
        yield world


def stage_plan(world: World, strategy: str) -> StagePlan:
    recipe = world.recipe(**SETTINGS, train__strategy=strategy)
    return plan_stage(recipe, "finetune", load_registry(), world.roots)


def save_again(plan: StagePlan, saved: Checkpoint, folder: Path) -> None:
    """Go on from a checkpoint, see that every part is right, and save it as this layout does."""
    with process_group() as ranks:
        model, _ = build_model(plan, None, load_registry())
        updater = setup_training(plan, model, ranks, "fp32", plan.stage.strategy)
        updater.restore(saved)
        held = updater.tensors()
        for kind, tensors in held.items():
            whole = saved.tensors(kind)
            assert tensors.keys() == whole.keys()
            for name, tensor in tensors.items():
                chunk = Chunk.of(tensor)
                place = tuple(slice(a, a + n) for a, n in zip(chunk.offset, chunk.size, strict=True))
                assert torch.equal(local_shard(tensor), whole[name][place]), (kind, name)
        assert updater.progress.step == saved.step == STEPS
        with open_writer(updater, plan, StageFolder(folder)) as saver:
            save_checkpoint(saver, updater, plan)
            saver.wait()


def test_every_layout_reads_what_every_other_wrote(trained: World, tmp_path: Path) -> None:
    first = saved = Checkpoints(trained.run("one") / "finetune" / "checkpoints").latest()
    assert first is not None and saved is not None
    for number, (world, strategy) in enumerate(LAYOUTS):
        folder = tmp_path / str(number)
        assert run_ranks(world, save_again, stage_plan(trained, strategy), saved, folder) == [0] * world
        saved = Checkpoints(folder / "checkpoints").latest()
        assert saved is not None
        _written_as_held(saved, world if strategy == "fsdp" else 1)
        for kind in (MODEL, OPTIMIZER, AVERAGE):
            before, after = first.tensors(kind), saved.tensors(kind)
            assert before.keys() == after.keys() and len(before) > 20
            assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def _written_as_held(saved: Checkpoint, writers: int) -> None:
    """Every rank has written about as much as any other, where each holds a part."""
    files = [facts["bytes"] for name, facts in saved.files.items() if name.startswith("optimizer")]
    assert len(files) == writers
    if writers == 2:
        assert max(files) < 1.3 * min(files)
