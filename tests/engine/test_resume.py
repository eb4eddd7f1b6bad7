"""A stage that was stopped, however, ends as if it had not been."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from skillnet_cli.api import UserError
from skillnet_cli.engine.checkpoint.format import Checkpoints
from skillnet_cli.engine.signals import Stopped, StopSignals
from tests.workbench import World, tasks

SETTINGS: dict[str, Any] = {
    "finetune__steps": 40,
    "finetune__tasks": {**tasks("sort", "fill", "units"), **tasks("match", "spell", batch=12)},
    "model__dropout": 0.2,
    "train__workers": 1,
    "train__checkpoints": {"every": 6, "keep": 2},
}
"""Two epochs of each task, checkpoints in the middle of both, dropout, masks, a process that reads ahead."""


BY_THE_CLOCK = {"seconds", "data_wait", "samples_per_second", "tflops", "of_peak", "memory"}
"""What a row says of the machine; all else is the same whenever an update is done again."""


def same_end(world: World, run: str, other: str) -> None:
    """Both runs have bit-identical parameters, moments and rows."""
    for name in ("model", "optimizer"):
        one, two = (final(world, each, name) for each in (run, other))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert steady(world, run) == steady(world, other)


def final(world: World, run: str, name: str) -> dict[str, torch.Tensor]:
    newest = Checkpoints(world.run(run) / "finetune" / "checkpoints").latest()
    assert newest is not None and newest.step == 40
    return load_file(newest.folder / f"{name}.safetensors")


def steady(world: World, run: str) -> list[dict[str, Any]]:
    """The rows of training without what clocks say."""
    rows = world.rows(run=run)
    assert [row["step"] for row in rows] == list(range(1, 41))
    return [{key: value for key, value in row.items() if key not in BY_THE_CLOCK} for row in rows]


def wait_for_step(world: World, run: str, step: int, process: Popen[str]) -> None:
    limit = time.monotonic() + 120
    while not any(row["step"] >= step for row in world.rows(run=run)):
        if process.poll() is not None or time.monotonic() > limit:
            process.kill()
            pytest.fail(f"step {step} never came: {process.communicate()[1]}")
        time.sleep(0.01)


def test_killed_and_resumed_equals_undisturbed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL at a moment nobody chose, once in the first epoch and once in the second."""
    recipe = world.recipe(**SETTINGS)
    world.train(run="straight", **SETTINGS)
    for step in (8, 26):
        with monkeypatch.context() as patch:
            patch.setenv("TOY_FAULT", "slow 0 4")
            process = world.start(recipe, run="killed")
        wait_for_step(world, "killed", step, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    world.train(run="killed", **SETTINGS)
    same_end(world, "straight", "killed")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_at_the_end_of_the_step(world: World, number: int, code: int) -> None:
    changes = {**SETTINGS, "finetune__steps": 4000, "train__checkpoints": {"every": 4000}}
    process = world.start(world.recipe(**changes))
    wait_for_step(world, "toy", 3, process)
    os.killpg(process.pid, number)  # as a terminal does, to the processes that read ahead too
    message = process.communicate(timeout=60)[1]
    assert process.returncode == code, message
    newest = Checkpoints(world.run() / "finetune" / "checkpoints").latest()
    assert newest is not None and newest.step == world.rows()[-1]["step"] < 4000
    assert f"stopped after step {newest.step} of 4000: run it again to resume" in message


def test_stopped_by_a_signal_and_resumed_equals_undisturbed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.train(run="straight", **SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(StopSignals, "__enter__", lambda self: setattr(self, "received", signal.SIGTERM) or self)
        with pytest.raises(Stopped):
            world.train(run="stopped", **SETTINGS)
    assert len(world.rows(run="stopped")) == 1
    world.train(run="stopped", **SETTINGS)
    same_end(world, "straight", "stopped")


def test_a_checkpoint_cut_off_is_not_gone_on_from(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.train(run="straight", **SETTINGS)
    shutil.copytree(world.run("straight"), world.run("cut"))
    shutil.rmtree(world.run("cut") / "finetune" / "model")
    last = world.run("cut") / "finetune" / "checkpoints" / "step-40" / "optimizer.safetensors"
    last.write_bytes(last.read_bytes()[:1000])
    world.train(run="cut", **SETTINGS)
    assert f"  from {world.run('cut')}/finetune/checkpoints/step-36\n" in capsys.readouterr().err
    same_end(world, "straight", "cut")


def test_the_number_of_readers_changes_nothing(world: World) -> None:
    world.train(run="straight", **SETTINGS)
    world.train(run="alone", **{**SETTINGS, "train__workers": 0})
    same_end(world, "straight", "alone")


def test_a_finished_stage_says_so_and_does_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    changes: dict[str, Any] = {"finetune__steps": 2, "finetune__tasks": tasks("fill")}
    world.train(**changes)
    before = stamps(world.run())
    capsys.readouterr()
    world.train(**changes)
    assert capsys.readouterr().err == f"finetune has finished already: {world.run() / 'finetune' / 'model'}\n"
    assert stamps(world.run()) == before


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_changed_recipe_is_refused_with_what_changed(world: World) -> None:
    world.train(finetune__steps=2, finetune__tasks=tasks("fill"))
    with pytest.raises(UserError) as caught:
        world.train(finetune__steps=3, finetune__tasks=tasks("fill", batch=4), seed=2)
    assert str(caught.value).splitlines() == [
        f"{world.run() / 'finetune'} was trained with another recipe:",
        "  seed: was 1, is now 2",
        "  finetune.steps: was 2, is now 3",
        "  finetune.tasks.fill.batch: was 8, is now 4",
        f"put these back, choose another run with --set name=…, or delete {world.run() / 'finetune'} to start again",
    ]


def test_what_does_not_change_the_learning_may_change(world: World) -> None:
    changes: dict[str, Any] = {"finetune__steps": 2, "finetune__tasks": tasks("fill")}
    world.train(**changes)
    world.train(**changes, train__workers=1, train__checkpoints={"every": 1, "keep": 1}, train__max_skipped_updates=3)


def test_a_finished_training_whose_model_was_not_written_is_finished(world: World) -> None:
    changes: dict[str, Any] = {"finetune__steps": 2, "finetune__tasks": tasks("fill")}
    world.train(**changes)
    for folder in (world.run() / "finetune" / "model", world.run() / "model"):
        shutil.rmtree(folder)
    world.train(**changes)
    assert (world.run() / "model" / "model.safetensors.index.json").exists()
    assert len(world.rows()) == 2


def test_auto_is_settled_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on where the default is another one keeps to what it was started in."""
    settings = {"train__precision": "auto", "finetune__tasks": tasks("sort")}
    monkeypatch.setattr("skillnet_cli.engine.setup.default_precision", lambda device: "bf16")
    world.train(**settings, finetune__steps=8)
    undisturbed = world.losses()
    shutil.rmtree(world.run() / "finetune" / "model")
    shutil.rmtree(world.run() / "finetune" / "checkpoints" / "step-8")
    monkeypatch.setattr("skillnet_cli.engine.setup.default_precision", lambda device: "fp32")
    world.train(**settings, finetune__steps=8)
    assert world.losses() == undisturbed
    world.train("other", **settings, finetune__steps=8)
    assert world.losses("other") != undisturbed
