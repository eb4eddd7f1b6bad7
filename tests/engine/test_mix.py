"""What was trained, shown at the end."""

from __future__ import annotations

import shutil

import pytest

from tests.workbench import World, tasks


def test_the_mix_is_shown_as_it_really_was(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """By the ratios 1 : 3 over ten updates of a block of four, also where the run was stopped in between."""
    settings = {"finetune__steps": 10, "finetune__tasks": {**tasks("sort"), **tasks("fill", ratio=3)}}
    world.train(**settings)
    for folder in (world.run() / "finetune" / "model", world.run() / "finetune" / "checkpoints" / "step-10"):
        shutil.rmtree(folder)
    capsys.readouterr()
    world.train(**settings)
    (row,) = world.rows("mix")
    seen = [task for task, _ in world.losses()]
    assert row["step"] == 10 and row["tasks"] == {
        name: {
            "updates": seen.count(name),
            "skipped": 0,
            "samples": 8 * seen.count(name),
            "epochs": pytest.approx(8 * seen.count(name) / 48),
        }
        for name in ("sort", "fill")
    }
    many = seen.count("fill")
    line = f"  fill: {many} of 10 updates, {8 * many} samples ({many / 6:.1f} epochs)"
    assert line in capsys.readouterr().err.splitlines() and many in (7, 8)
