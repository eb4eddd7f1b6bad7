"""Whatever happens while a checkpoint is saved, a complete one is there, never older than the last that was told of."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from skillnet_cli.engine import trainer
from skillnet_cli.engine.checkpoint.format import DESCRIPTION, Checkpoint, Checkpoints
from skillnet_cli.engine.checkpoint.writer import CheckpointWriter
from skillnet_cli.engine.trainer import run_stage
from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe import Recipe
from tests.ranks import run_ranks, start_ranks
from tests.workbench import World, tasks, toy_world

SETTINGS: dict[str, Any] = {
    "finetune__steps": 100_000,
    "finetune__tasks": tasks("sort", "fill", "match"),
    "train__checkpoints": {"every": 1, "keep": 1},
}
"""A training that does hardly anything but save."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with toy_world(tmp_path) as opened:
        yield opened


def train(recipe: Recipe, run: Path, roots: Sequence[Path]) -> None:
    run_stage(recipe, "finetune", load_registry(), run, roots)


def saves(world: World) -> Path:
    return world.run() / "finetune" / "checkpoints"


def told(world: World) -> int:
    """The newest step that the run has said is saved."""
    return max((row["step"] for row in world.rows("saved")), default=0)


def whole(checkpoint: Checkpoint) -> bool:
    """It can be read to the last byte, and is all of one step."""
    checkpoint.verify()
    counts = [tensor for name, tensor in checkpoint.tensors("optimizer").items() if name.endswith("/step")]
    assert checkpoint.state()["progress"]["step"] == checkpoint.step
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint.tensors("model").values())
    return max(map(float, counts)) == checkpoint.step  # what all tasks share has seen every step


KILLS = [
    pytest.param(range(4), 1, "replicate", id="4 seeds"),
    pytest.param(range(2), 2, "fsdp", id="2 seeds, 2 ranks"),
    pytest.param(range(50), 1, "replicate", id="50 seeds", marks=pytest.mark.soak),
    pytest.param(range(50), 2, "fsdp", id="50 seeds, 2 ranks", marks=pytest.mark.soak),
]


@pytest.mark.parametrize(("seeds", "ranks", "strategy"), KILLS)
def test_killed_while_it_saves(world: World, seeds: range, ranks: int, strategy: str) -> None:
    """kill -9 at a moment drawn by a seed, every other one in a save, again and again in one run, which goes on."""
    recipe = world.recipe(**SETTINGS, train__strategy=strategy)
    in_the_middle, before = 0, 0
    for seed in seeds:
        processes = start_ranks(ranks, train, recipe, world.run(), world.roots)
        _wait_for_save(world, told(world), processes)
        _stop_at_moment(world, random.Random(seed), processes, in_a_save=bool(seed % 2))
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        assert {process.exitcode for process in processes} == {-signal.SIGKILL}
        in_the_middle += bool(list(saves(world).glob(".step-*")))
        newest = Checkpoints(saves(world)).latest()
        assert newest is not None and whole(newest)
        assert newest.step >= max(told(world), before), f"seed {seed}"
        before = newest.step
    print(f"{len(seeds)} kills, {in_the_middle} of them in the middle of a save; the run came to step {before}")
    assert in_the_middle >= len(seeds) // 2


def _stop_at_moment(world: World, draw: random.Random, processes: Sequence[BaseProcess], in_a_save: bool) -> None:
    """SIGSTOP first, since only of what stands still can one say whether it is in the middle of a save."""
    time.sleep(draw.uniform(0, 0.2))
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        while in_a_save and not list(saves(world).glob(".step-*")):
            assert time.monotonic() < limit
        time.sleep(draw.uniform(0, 0.005))
        for process in processes:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGSTOP)
        if not in_a_save or list(saves(world).glob(".step-*")):
            return
        for process in processes:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGCONT)
    pytest.fail("no save was under way in a minute")


def _wait_for_save(world: World, after: int, processes: Sequence[BaseProcess]) -> None:
    limit = time.monotonic() + 120
    while told(world) <= after:
        assert time.monotonic() < limit and all(process.is_alive() for process in processes)
        time.sleep(0.01)


def _train_with_little_room(recipe: Recipe, run: Path, roots: Sequence[Path]) -> None:
    """No file may become longer than the longest of the first checkpoint found: an error as of a full disk."""
    original, limited = CheckpointWriter.save, False

    def save(self: CheckpointWriter, step: int, *arguments: Any) -> Any:
        nonlocal limited
        found = Checkpoints(self.root).latest()
        if found is not None and not limited:  # once: a save that had begun by then may be longer
            limited = True
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(f["bytes"] for f in found.files.values()),) * 2)
        return original(self, step, *arguments)

    CheckpointWriter.save = save  # type: ignore[method-assign]
    run_stage(recipe, "finetune", load_registry(), run, roots)


@pytest.mark.parametrize(("ranks", "strategy"), [(1, "replicate"), (2, "fsdp")])
def test_no_room_for_the_next_save(world: World, ranks: int, strategy: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The moments of the second task make the file longer than it may be."""
    recipe = world.recipe(**SETTINGS, train__strategy=strategy)
    assert run_ranks(ranks, _train_with_little_room, recipe, world.run(), world.roots) == [1] * ranks
    message = capfd.readouterr().err
    assert "cannot save the checkpoint" in message and "earlier checkpoints are intact" in message
    assert "File too large" in message and "Traceback" not in message
    newest = Checkpoints(saves(world)).latest()
    assert newest is not None and whole(newest) and newest.step >= told(world) >= 1
    assert not list(saves(world).glob(".step-*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MB in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _train_unwarned(recipe: Recipe, run: Path, roots: Sequence[Path]) -> None:
    """As on a disk that others fill while it trains: at the start there seems to be room."""
    trainer.disk_problem = lambda *_: None
    train(recipe, run, roots)


@pytest.mark.parametrize(("ranks", "strategy"), [(1, "replicate"), (2, "fsdp")])
def test_a_full_disk(
    world: World, small_disk: Path, ranks: int, strategy: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints of six megabytes, of which nine shall be kept, on a disk of twenty."""
    sizes = {"layers": 2, "hidden": 64, "heads": 2, "ffn": 512}
    recipe = world.recipe(
        **{**SETTINGS, "train__checkpoints": {"every": 1, "keep": 9}}, model=sizes, train__strategy=strategy
    )
    assert run_ranks(ranks, _train_unwarned, recipe, small_disk / "runs", world.roots) == [1] * ranks
    message = capfd.readouterr().err
    assert "cannot save the checkpoint" in message and "earlier checkpoints are intact" in message
    assert "No space left on device" in message and "Traceback" not in message
    found = sorted(Checkpoints(small_disk / "runs" / "finetune" / "checkpoints").complete(), key=lambda each: each.step)
    assert [each.step for each in found] == list(range(1, len(found) + 1)) and len(found) >= 2
    assert all(map(whole, found))


SLOW = """
import os, time
original = os.fsync
def fsync(descriptor):
    if "/checkpoints/" in os.readlink(f"/proc/self/fd/{{descriptor}}"):
        time.sleep({seconds})
    original(descriptor)
os.fsync = fsync
"""


@pytest.fixture
def slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every file of a checkpoint that another process has synced takes it so long."""

    def slow(seconds: float) -> None:
        (tmp_path / "slow").mkdir()
        (tmp_path / "slow" / "sitecustomize.py").write_text(SLOW.format(seconds=seconds))
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'slow'}{os.pathsep}{os.environ['PYTHONPATH']}")

    return slow


STOPS = [pytest.param(0.3, id="a slow disk"), pytest.param(8.0, id="a very slow disk", marks=pytest.mark.soak)]


@pytest.mark.parametrize("seconds", STOPS)
def test_a_signal_waits_for_a_slow_save(world: World, slow_disk: Any, seconds: float) -> None:
    """The launcher kills nobody who saves, be it for longer than the 30 seconds that it gives by itself."""
    slow_disk(seconds)
    changes = {**SETTINGS, "train__checkpoints": {"every": 100_000}, "train__strategy": "fsdp"}
    process = world.start(world.recipe(**changes), nproc=2, max_restarts=3)
    _wait_for_steps(world, 3)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    message = process.communicate(timeout=400)[1]
    assert process.returncode == 143, message
    assert time.monotonic() - began > 6 * seconds  # four files of weights, the state, the marker
    newest = Checkpoints(saves(world)).latest()
    assert newest is not None and whole(newest) and newest.step == world.rows()[-1]["step"] == told(world)
    assert message.splitlines()[-1].endswith("run it again to resume") and "Traceback" not in message


def test_a_second_signal_ends_it_at_once(world: World, slow_disk: Any) -> None:
    slow_disk(60.0)
    process = world.start(world.recipe(**{**SETTINGS, "train__checkpoints": {"every": 2}}), nproc=2)
    _wait_for_steps(world, 4)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 130 and time.monotonic() - began < 20
    assert not list(saves(world).glob(".step-*"))
    assert Checkpoints(saves(world)).latest() is None


def _wait_for_steps(world: World, steps: int) -> None:
    limit = time.monotonic() + 200
    while not any(row["step"] >= steps for row in world.rows()):
        assert time.monotonic() < limit, f"step {steps} never came"
        time.sleep(0.02)


def test_drafts_are_the_only_thing_left(world: World) -> None:
    """What a killed save has left is gone when the run goes on."""
    (saves(world) / ".step-7.00000000.partial").mkdir(parents=True)
    world.train(**{**SETTINGS, "finetune__steps": 2})
    assert not list(saves(world).glob(".*")) and (saves(world) / "step-2" / DESCRIPTION).exists()
