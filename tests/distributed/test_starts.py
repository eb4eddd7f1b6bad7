"""The same training under every launcher: torchrun, srun, two machines' own, and the processes that they make ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from skillnet_cli.engine.checkpoint.format import Checkpoint, Checkpoints
from tests.distributed.ranks import ends, start_one, start_ranks
from tests.distributed.test_two_processes import train
from tests.ranks import free_port
from tests.workbench import TOY, World, tasks, toy_world

STEPS = 6
SETTINGS: dict[str, Any] = {
    "finetune__steps": STEPS,
    "finetune__tasks": tasks("sort", "spell", "match"),
    "model__dropout": 0.1,
    "train__checkpoints": {"every": STEPS, "keep": 1},
}


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A training by ``--nproc 2``, for all others to be compared with."""
    with toy_world(tmp_path_factory.mktemp("starts")) as world:
        train(world, "nproc", **SETTINGS)
        yield world


def same(world: World, run: str) -> None:
    assert world.losses(run) == world.losses("nproc") and len(world.losses(run)) == STEPS
    for name in ("model", "optimizer"):
        one, other = (last(world, each).tensors(name) for each in (run, "nproc"))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def last(world: World, run: str) -> Checkpoint:
    newest = Checkpoints(world.run(run) / "finetune" / "checkpoints").latest()
    assert newest is not None and newest.step == STEPS
    return newest


def environment(world: World) -> dict[str, str]:
    toys = {"PYTHONPATH": f"{TOY}{os.pathsep}{os.environ['PYTHONPATH']}", "SKILLNET_PLUGINS": "toy"}
    return {**os.environ, **toys, "SKILLNET_DATA": str(world.roots[0])}


def test_torchrun_starts_it(launched: World) -> None:
    words = [
        "finetune",
        str(launched.write_recipe(name="torchrun", **SETTINGS)),
        "--runs",
        str(launched.folder / "runs"),
    ]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    done = subprocess.run(
        [*command, "-m", "skillnet_cli", *words], env=environment(launched), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "2 cpu processes" in done.stderr and done.stderr.count("finetune of torchrun") == 1
    same(launched, "torchrun")


def test_srun_starts_it(launched: World) -> None:
    recipe = launched.recipe(name="srun", **SETTINGS, train__debug=True)  # ranks that agree are left in peace
    step = {
        "SLURM_JOB_ID": str(free_port()),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_NODEID": "0",
    }
    processes = [
        start_one(launched, recipe, "srun", **step, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in ("0", "1")
    ]
    for code, message in ends(processes):
        assert code == 0, message
    same(launched, "srun")


def test_two_launchers_meet(launched: World) -> None:
    """As on two machines, here on one."""
    recipe = launched.recipe(name="nodes", **SETTINGS)
    where = f"localhost:{free_port()}"
    processes = [launched.start(recipe, "nodes", nnodes=2, rdzv_endpoint=where) for _ in range(2)]
    for code, message in ends(processes):
        assert code == 0, message
    same(launched, "nodes")


def test_a_rank_that_does_not_see_the_runs_is_told(launched: World) -> None:
    recipe = launched.recipe(name="nproc", **SETTINGS)
    processes = start_ranks(launched, recipe, "nproc", RANK_FAULT="no_run_folder")
    for code, message in ends(processes):
        assert code == 1
        assert f"the newest checkpoint in {launched.run('nproc')}: rank 1 has None, rank 0 has {STEPS}" in message


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param("other_order", "before step 1 the ranks do not agree: task: rank 1 has ", marks=pytest.mark.soak),
        ("other_parameters", "before step 11 the ranks do not agree: parameter encoder.final_norm.weight: rank 1 has "),
    ],
)
def test_debug_says_which_rank_differs(launched: World, fault: str, said: str) -> None:
    recipe = launched.recipe(name=fault, **{**SETTINGS, "finetune__steps": 12}, train__debug=True)
    for code, message in ends(start_ranks(launched, recipe, fault, RANK_FAULT=fault)):
        assert code == 1 and "Traceback" not in message, message
        assert said in message
    assert len(launched.losses(fault)) == (0 if fault == "other_order" else 10)
