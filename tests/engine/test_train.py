from __future__ import annotations

from skillnet_cli.engine.train import run_stage
from tests.workbench import TASKS, World


def test_losses_fall(world: World) -> None:
    run_stage(world.recipe(finetune__steps=240), "finetune", world.run(), world.roots)
    rows = world.rows()
    assert [row["step"] for row in rows] == list(range(1, 241))
    for task in TASKS:
        losses = [row["loss"] for row in rows if row["task"] == task]
        assert len(losses) == 40
        print(task, losses[0], losses[-1])
