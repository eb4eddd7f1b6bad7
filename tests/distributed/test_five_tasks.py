"""Two ranks on all five tasks, dropout and augmentation on, third epoch: whatever is killed, the end is the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch

from skillnet_cli.data.sampler import TaskOrder
from tests.distributed.test_two_processes import _workers
from tests.five import BATCH, ITEMS, STEPS, TASKS, Five, make_five

THIRD_EPOCH = 2 * len(TASKS) * ITEMS // BATCH
"""From this step on every task is in its third epoch."""


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Five:
    """With the undisturbed run ``straight``."""
    five = make_five(tmp_path_factory.mktemp("five"))
    finish(five, "straight", five.start("straight", nproc=2))
    return five


def finish(five: Five, run: str, process: subprocess.Popen[bytes]) -> None:
    assert process.wait(timeout=600) == 0, five.said(run)


def same_end(five: Five, run: str, other: str = "straight", steps: int = STEPS) -> None:
    one, two = five.state(run, steps), five.state(other, steps)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    assert five.rows(run) == five.rows(other) and len(five.rows(run)) == steps


def wait_for_step(five: Five, run: str, step: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 300
    while not any(row["step"] >= step for row in five.rows(run)):
        assert process.poll() is None, five.said(run)
        assert time.monotonic() < until, f"step {step} never came"
        time.sleep(0.005)


def test_every_task_is_in_its_third_epoch_when_it_is_stopped() -> None:
    order = TaskOrder(dict.fromkeys(TASKS, 1), 1)
    places = [order.position(step) for step in range(THIRD_EPOCH, THIRD_EPOCH + len(TASKS))]
    assert all(place * BATCH // ITEMS == 2 for place in places)


@pytest.mark.soak
def test_ranks_killed_and_started_again_end_as_undisturbed(five: Five) -> None:
    """Two kills, of either rank, the second in the third epoch."""
    process = five.start("restarted", nproc=2, max_restarts=2)
    for rank, step in ((0, 6), (1, THIRD_EPOCH + 3)):
        wait_for_step(five, "restarted", step, process)
        os.kill(_workers(process.pid)[rank], signal.SIGKILL)
    finish(five, "restarted", process)
    same_end(five, "restarted")


@pytest.mark.soak
def test_all_killed_in_the_third_epoch_and_gone_on_with(five: Five) -> None:
    process = five.start("killed", nproc=2)
    wait_for_step(five, "killed", THIRD_EPOCH + 3, process)
    kill_all(process.pid)
    process.wait()
    finish(five, "killed", five.start("killed", nproc=2))
    same_end(five, "killed")


@pytest.mark.soak
def test_a_rank_killed_at_twenty_random_moments(five: Five) -> None:
    """Either rank, at a step that chance chooses or while the processes start."""
    kills, steps, draw = 20, 300, random.Random(5)
    finish(five, "long", five.start("long", steps, nproc=2))
    process = five.start("hunted", steps, nproc=2, max_restarts=kills)
    # Well before the end, which a fast machine would come to while this process sleeps.
    for number, step in enumerate(sorted(draw.sample(range(1, steps // 2), kills))):
        before = _victims(process)
        if number % 4 == 3:
            time.sleep(draw.uniform(0, 6))
        else:
            wait_for_step(five, "hunted", step, process)
            time.sleep(draw.uniform(0, 0.05))
        rank = draw.randrange(2)
        os.kill(_victims(process)[rank], signal.SIGKILL)
        _wait_for_others(process, before)
    finish(five, "hunted", process)
    same_end(five, "hunted", "long", steps)


def kill_all(pid: int) -> None:
    """A process and all that it has started."""
    process = psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        each.kill()


def _victims(process: subprocess.Popen[bytes]) -> list[int]:
    """Both ranks, as soon as they are there."""
    limit = time.monotonic() + 300
    while len(found := _workers(process.pid)) < 2:
        assert process.poll() is None and time.monotonic() < limit, "it has ended, or starts no ranks"
        time.sleep(0.05)
    return found


def _wait_for_others(process: subprocess.Popen[bytes], before: list[int]) -> None:
    """Until the launcher has noticed and started new ranks."""
    limit = time.monotonic() + 300
    while process.poll() is None and (not set(_workers(process.pid)).isdisjoint(before) or not _workers(process.pid)):
        assert time.monotonic() < limit, "the launcher starts no others"
        time.sleep(0.05)


@pytest.mark.soak
def test_another_number_of_ranks_has_the_same_data_in_the_same_order(five: Five, tmp_path: Path) -> None:
    """Stopped with two ranks, gone on with by one: the tasks, their order and the losses up to rounding."""
    process = five.start("fewer", nproc=2)
    wait_for_step(five, "fewer", 10, process)
    kill_all(process.pid)
    process.wait()
    finish(five, "fewer", five.start("fewer"))
    assert [row["task"] for row in five.rows("fewer")] == [row["task"] for row in five.rows("straight")]
    assert [row["count"] for row in five.rows("fewer")] == [row["count"] for row in five.rows("straight")]
