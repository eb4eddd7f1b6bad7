"""One rank of a toy training, as torchrun or srun start it; a test may have it differ from the others."""

from __future__ import annotations

import os
import runpy
import sys
import threading
from pathlib import Path

import torch


def other_order() -> None:
    """This rank has the tasks in another order."""
    from skillnet_cli.data.sampler import TaskOrder

    original = TaskOrder.task
    TaskOrder.task = lambda self, step: original(self, step + 1)  # type: ignore[method-assign]


def other_parameters() -> None:
    """This rank's parameters are moved a little after the third update."""
    from skillnet_cli.engine.step import Updater

    original = Updater.update

    def update(self, *arguments):  # type: ignore[no-untyped-def]
        outcome = original(self, *arguments)
        if self.progress.step == 3:
            parameter = dict(self.model.named_parameters())["encoder.final_norm.weight"]
            with torch.no_grad():
                parameter.to_local().add_(1e-6)
        return outcome

    Updater.update = update  # type: ignore[method-assign]


def no_run_folder() -> None:
    """This rank does not see the folder of runs."""
    from skillnet_cli.engine.checkpoint.format import Checkpoints

    Checkpoints.latest = lambda self: None  # type: ignore[method-assign]


def no_third_step() -> None:
    """This rank waits for its third batch for ever."""
    from skillnet_cli.engine.loader import StepDataset

    original = StepDataset.__getitem__

    def get(self, step):  # type: ignore[no-untyped-def]
        if step == 2:
            threading.Event().wait()
        return original(self, step)

    StepDataset.__getitem__ = get  # type: ignore[method-assign]


def no_numbers() -> None:
    """This rank's losses are never finite."""
    from skillnet_cli.model.skillnet import SkillNet

    original = SkillNet.forward

    def forward(self, *arguments):  # type: ignore[no-untyped-def]
        loss, count = original(self, *arguments)
        return loss * float("inf"), count

    SkillNet.forward = forward  # type: ignore[method-assign]


if __name__ == "__main__":
    if os.environ.get("RANK_FAULT") and os.environ.get("RANK") == "1":
        globals()[os.environ["RANK_FAULT"]]()
    sys.argv[0] = str(Path(__file__).parents[1] / "train_toy.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
