"""How the model is laid out over ranks where the recipe leaves it to us, and how many processes a machine can take."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from skillnet_cli.api import UserError
from skillnet_cli.engine.checkpoint.format import Checkpoint
from skillnet_cli.engine.distributed import mesh as distribution
from skillnet_cli.engine.distributed.mesh import Ranks, fitting_strategy, memory_of
from skillnet_cli.engine.launch import Processes, launch
from skillnet_cli.engine.plan import plan_stage
from skillnet_cli.engine.setup import build_model, choose_strategy
from skillnet_cli.plugins import load_registry
from tests.engine.test_train import ALONE
from tests.workbench import World

GIB = 2.0**30


@pytest.mark.parametrize(
    ("memory", "parameters", "strategy"),
    [(40 * GIB, 124_000_000, "replicate"), (40 * GIB, 1_342_177_280, "replicate"), (40 * GIB, 1_342_177_281, "fsdp")],
)
def test_copies_where_half_of_the_memory_holds_them(memory: float, parameters: int, strategy: str) -> None:
    """40 GiB hold 1.25 × 2^30 parameters of 16 bytes in their half."""
    assert fitting_strategy("auto", parameters, memory) == strategy
    assert (
        fitting_strategy("replicate", 10**12, memory) == "replicate" and fitting_strategy("fsdp", 1, memory) == "fsdp"
    )


def test_processes_share_the_memory_of_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory_of(torch.device("cpu"))
    assert whole == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory_of(torch.device("cpu")) == whole / 4


class Saved(Checkpoint):
    """A checkpoint of two ranks that each had a part."""

    def state(self) -> dict[str, object]:
        progress = {"step": 1, "skipped": 0, "skipped_in_row": 0}
        return {"progress": progress, "precision": "fp32", "strategy": "fsdp", "world": 2, "trained_by": {}}


def test_what_was_chosen_stays_while_the_ranks_are_as_many(world: World, tmp_path: os.PathLike[str]) -> None:
    plan = plan_stage(world.recipe(), "finetune", load_registry(), world.roots)
    model, _ = build_model(plan, None, load_registry())
    saved = Saved(world.folder, 1)
    two = Ranks(0, 2, torch.device("cpu"))
    assert choose_strategy(plan, model, two, saved) == "fsdp"
    assert choose_strategy(plan, model, ALONE, saved) == choose_strategy(plan, model, ALONE, None) == "replicate"
    said = plan_stage(world.recipe(train__strategy="replicate"), "finetune", load_registry(), world.roots)
    assert choose_strategy(said, model, two, saved) == "replicate"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that says it has two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    yield


def test_more_processes_than_gpus_are_one_line(world: World, gpus: None) -> None:
    with pytest.raises(UserError, match=r"^--nproc 3, and this machine has 2 GPUs: at most one process for each"):
        launch(world.recipe(), "finetune", load_registry(), world.run(), world.roots, Processes(nproc=3))
    with pytest.raises(UserError, match=r"^3 processes for 2 GPUs"):
        distribution._device(0, 3)
    assert distribution._device(1, 2) == torch.device("cuda", 1)


def test_a_process_that_is_shown_one_gpu_takes_it(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert distribution._device(3, 4) == torch.device("cuda", 0)
