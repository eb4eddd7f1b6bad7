"""Two processes under elastic launch learn what one learns, and survive what one survives."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from skillnet_cli.engine.checkpoint.format import Checkpoint, Checkpoints
from skillnet_cli.model.parts import part_of
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry
from tests.workbench import TASKS, World, make_set, tasks, toy_world

STEPS = 28
SETTINGS: dict[str, Any] = {
    "finetune__steps": STEPS,
    "finetune__tasks": {
        **tasks("sort", "match"),
        **tasks("spell", "fill", "pair", "units", micro_batch=3),
        **tasks("mirror", micro_batch=2, recompute=True, datasets=["twins"]),
    },
    "train__checkpoints": {"every": 1, "keep": STEPS},
}
"""Every objective, micro-batches whose last reduces the gradients, a batch compared in two passes, float32."""
TWINS = ("abc", "bcdefgh", "dada", "ha", "fec", "gab", "bee", "face", "head", "cafe", "edge")


def train(world: World, run: str, stage: str = "finetune", nproc: int = 2, **changes: Any) -> None:
    process = world.start(world.recipe(name=run, **changes), run, stage, nproc=nproc)
    message = process.communicate(timeout=300)[1]
    assert process.returncode == 0, message


def saved(world: World, run: str, step: int, name: str) -> dict[str, torch.Tensor]:
    return Checkpoint(world.run(run) / "finetune" / "checkpoints" / f"step-{step}", step).tensors(name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same training by one process and by two, each of which holds all parameters."""
    with toy_world(tmp_path_factory.mktemp("trained")) as world:
        make_set(world.folder / "data", "twins", words=TWINS)
        world.train("one", name="one", **SETTINGS)
        train(world, "replicate", **SETTINGS)
        yield world


def test_two_copies_learn_what_one_process_learns(trained: World) -> None:
    _same(trained, "replicate")


def test_two_parts_learn_what_one_process_learns(trained: World) -> None:
    train(trained, "fsdp", train__strategy="fsdp", **SETTINGS)
    _same(trained, "fsdp")


def _same(world: World, run: str) -> None:
    _same_losses(world, run)
    _same_tensors(world, run)
    _inactive_parts_stay(world, run)


def _same_losses(world: World, two_run: str) -> None:
    one, two = world.losses("one"), world.losses(two_run)
    assert [task for task, _ in one] == [task for task, _ in two] and len(one) == STEPS
    assert {task for task, _ in one} == {*TASKS, "mirror"}
    assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], abs=1e-5)
    alike = [[row.get("duplicates") for row in world.rows(run=run)] for run in ("one", two_run)]
    assert alike[0] == alike[1] and any(alike[0])
    norms = [[row["grad_norm"] for row in world.rows(run=run)] for run in ("one", two_run)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)


def _same_tensors(world: World, run: str) -> None:
    """The checkpoints are whole, as one process writes them, and close to them; so is the exported model."""
    for name, tolerance in (("model", 1e-3), ("optimizer", 1e-3)):
        one, two = saved(world, "one", 6, name), saved(world, run, 6, name)
        assert one.keys() == two.keys()
        for key in one:
            torch.testing.assert_close(two[key], one[key], rtol=tolerance, atol=tolerance, msg=key)
    exported = SkillNet.from_pretrained(world.run(run) / "model", registry=load_registry()).state_dict()
    last = saved(world, run, STEPS, "model")
    assert all(torch.equal(tensor, last[name]) for name, tensor in exported.items())


def _inactive_parts_stay(world: World, run: str) -> None:
    """From step to step, parameters and moments of parts that the step's task does not activate are bit-identical."""
    model = SkillNet.from_pretrained(world.run(run) / "model", registry=load_registry())
    for step, (task, _) in enumerate(world.losses(run)[1:], 2):
        active = model.activated_parts(task)
        for name in ("model", "optimizer"):
            before, after = saved(world, run, step - 1, name), saved(world, run, step, name)
            for key in before:
                assert part_of(key.partition("/")[0]) in active or torch.equal(before[key], after[key]), (task, key)


def test_a_process_that_dies_is_started_again_and_nothing_is_lost(trained: World) -> None:
    settings = {**SETTINGS, "train__checkpoints": {"every": 5, "keep": 2}}
    process = trained.start(trained.recipe(name="killed", **settings), "killed", nproc=2, max_restarts=1)
    _wait_for_step(trained, "killed", 8)
    os.kill(_workers(process.pid)[1], signal.SIGKILL)
    message = process.communicate(timeout=300)[1]
    assert process.returncode == 0 and "/checkpoints/step-" in message, message
    for name in ("model", "optimizer"):
        one, other = saved(trained, "replicate", STEPS, name), saved(trained, "killed", STEPS, name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert trained.losses("replicate") == trained.losses("killed")


def test_a_signal_to_all_processes_saves_and_stops_them(world: World) -> None:
    changes = {"finetune__tasks": tasks(*TASKS), "finetune__steps": 4000, "train__checkpoints": {"every": 4000}}
    process = world.start(world.recipe(**changes), nproc=2)
    _wait_for_step(world, "toy", 3)
    os.killpg(process.pid, signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130, message
    newest = Checkpoints(world.run() / "finetune" / "checkpoints").latest()
    assert newest is not None and newest.step == world.rows()[-1]["step"] < 4000
    assert "Traceback" not in message and "resume" in message


def test_a_mistake_that_only_the_processes_find_is_one_line(world: World) -> None:
    process = world.start(world.recipe(finetune__start_from="nowhere/model"), nproc=2)
    message = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert message.splitlines()[-1].startswith(
        "skillnet: error: nowhere/model: no such folder, nor a repository that can be read"
    )
    assert "Traceback" not in message


def _workers(launcher: int) -> list[int]:
    """The processes that train, found by what started them."""
    commands = {}
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        with suppress(OSError):  # it has ended meanwhile
            commands[int(child)] = Path(f"/proc/{child}/cmdline").read_bytes()
    return [child for child, command in commands.items() if b"spawn_main" in command]


def _wait_for_step(world: World, run: str, step: int) -> None:
    limit = time.monotonic() + 200
    while not any(row["step"] >= step for row in world.rows(run=run)):
        assert time.monotonic() < limit, f"step {step} never came"
        time.sleep(0.02)
