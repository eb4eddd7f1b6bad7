"""A rank that breaks, dies, hangs or computes no numbers: the others end or go on, and the message names it."""

from __future__ import annotations

import re
import signal
from typing import Any

import pytest
import torch

from tests.distributed.ranks import ends, start_ranks
from tests.distributed.test_two_processes import saved
from tests.workbench import World, tasks

SETTINGS: dict[str, Any] = {
    "finetune__steps": 8,
    "finetune__tasks": tasks("spell", "units"),
    "train__checkpoints": {"every": 1, "keep": 8},
}
PATIENCE = 6
"""Seconds; a rank that is merely slow, on a machine that is busy, must not be taken for a lost one."""
NAME = r"rank 1 \(host \S+, pid (\d+)\)"


def left_alone(world: World) -> tuple[str, int]:
    """What rank 0 says as it ends, after waiting for rank 1, and that one's process."""
    first, second = start_ranks(world, world.recipe(**SETTINGS, train__timeout=PATIENCE), "toy")
    try:
        ((code, message),) = ends([first], timeout=60)
    finally:
        second.send_signal(signal.SIGKILL)
        second.communicate()
    assert code == 1, message
    return message, second.pid


def test_a_bug_in_one_rank_shows_its_traceback(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAULT", "bug 1 3")
    process = world.start(world.recipe(**SETTINGS), nproc=2)
    message = process.communicate(timeout=120)[1]
    assert process.returncode not in (0, 2), message
    assert message.rstrip().endswith("IndexError: the toy is broken")
    assert re.search(r"rank 1 \(pid \d+\):\nTraceback", message) and "toy_faults.py" in message


def test_a_rank_that_hangs_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAULT", "hang 1 3")
    message, pid = left_alone(world)
    # Signs are given twice a second, so the last one may be of any step before, on a machine that is quick.
    hangs = rf"has given no sign of life for {PATIENCE} s, (?:before step 1|last in step [123])"
    found = re.search(f"skillnet: error: {NAME} {hangs}; run it again to resume", message)
    assert found and int(found[1]) == pid and "Traceback" not in message, message


@pytest.mark.soak
def test_a_rank_that_reads_for_ever_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK_FAULT", "no_third_step")
    message, _ = left_alone(world)
    assert re.search(
        f"skillnet: error: {NAME} did not reach step 3 within {PATIENCE} s; run it again to resume", message
    )


def test_a_rank_that_dies_is_named_by_the_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no launcher looks after both, as on two machines."""
    monkeypatch.setenv("TOY_FAULT", "die 1 3")
    processes = start_ranks(world, world.recipe(**SETTINGS), "toy")
    (code, message), (other, _) = ends(processes)
    assert (code, other) == (1, -signal.SIGKILL), message
    found = re.search(f"skillnet: error: lost {NAME}; run it again to resume", message)
    assert found and int(found[1]) == processes[1].pid and "Traceback" not in message


def test_a_rank_that_dies_is_named_by_the_launcher(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAULT", "die 1 3")
    process = world.start(world.recipe(**SETTINGS), nproc=2)
    message = process.communicate(timeout=120)[1]
    assert process.returncode == 1, message
    last = message.rstrip().splitlines()[-1]
    assert re.fullmatch(f"skillnet: error: {NAME} was killed by SIGKILL; run it again to resume", last), message
    assert "Traceback" not in message


@pytest.mark.soak
def test_a_rank_that_hangs_is_started_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher gives it half a minute to end before it kills it."""
    world_settings = {**SETTINGS, "train__timeout": PATIENCE}
    first = world.start(world.recipe(name="undisturbed", **world_settings), "undisturbed", nproc=2)
    assert first.wait(120) == 0
    monkeypatch.setenv("TOY_FAULT", "hang 1 3")
    process = world.start(world.recipe(**world_settings), nproc=2, max_restarts=1)
    message = process.communicate(timeout=180)[1]
    assert process.returncode == 0, message
    assert world.losses("toy") == world.losses("undisturbed")


@pytest.mark.parametrize("strategy", ["fsdp", pytest.param("replicate", marks=pytest.mark.soak)])
def test_what_is_not_finite_on_one_rank_is_left_out_by_both(
    world: World, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """Parameters, moments and the learning rate's schedule stay; the next update is applied."""
    monkeypatch.setenv("TOY_FAULT", "nan 1 4")
    for code, message in ends(start_ranks(world, world.recipe(**SETTINGS, train__strategy=strategy), "toy")):
        assert code == 0, message
    assert [row["step"] for row in world.rows("skipped")] == [4]
    rates = [row["lr"] for row in world.rows()]
    assert rates[4] == rates[3] and rates[5] < rates[4]
    for name in ("model", "optimizer"):
        before, after, later = (saved(world, "toy", step, name) for step in (3, 4, 5))
        assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
        assert any(not torch.equal(after[key], later[key]) for key in after)
    (mix,) = world.rows("mix")
    assert sum(each["skipped"] for each in mix["tasks"].values()) == 1
    assert sum(each["updates"] for each in mix["tasks"].values()) == 8


@pytest.mark.soak
def test_ranks_that_are_never_finite_end_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK_FAULT", "no_numbers")
    processes = start_ranks(world, world.recipe(**SETTINGS, train__max_skipped_updates=3), "toy")
    for code, message in ends(processes):
        assert code == 1 and "step 3: the last 3 updates were not finite: lower the lr" in message
