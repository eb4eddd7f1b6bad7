"""What a run tells while it goes: to metrics.jsonl, to whoever watches, to TensorBoard where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from skillnet_cli.engine.display import open_display
from skillnet_cli.engine.folders import StageFolder
from skillnet_cli.engine.metrics import MetricsLog

SMOOTHING = 0.9
BY_TASK = {"grad_norm", "count", "samples_per_second", "tflops", "of_peak"}
"""Numbers of an update that differ from task to task, and have a curve for each."""


class Telemetry:
    """The rank that writes: every update and evaluation goes to the file, the screen and TensorBoard."""

    def __init__(self, folder: StageFolder, stage: str, start: int, steps: int) -> None:
        self.log = MetricsLog(folder.metrics, start)
        self.stack = ExitStack()
        self.stack.callback(self.log.close)
        self.display = open_display(stage, start, steps, self.stack)
        self.board = _tensorboard(folder, start, self.stack)
        self.losses: dict[str, float] = {}

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def trained(self, step: int, task: str, loss: float, **facts: Any) -> None:
        """An update is done: ``loss`` is its mean, ``facts`` are numbers such as the learning rate."""
        self.log.write("train", step, task=task, loss=loss, **facts)
        if loss == loss:
            self.losses[task] = SMOOTHING * self.losses.get(task, loss) + (1 - SMOOTHING) * loss
        self.display.trained(task, facts)
        self.display.step(step, self.losses)
        if self.board is not None:
            self.board.add_scalar(f"loss/{task}", loss, step)
            for name, value in facts.items():
                self.board.add_scalar(f"{name}/{task}" if name in BY_TASK else name, value, step)

    def began(self, step: int, **facts: Any) -> None:
        """The run starts, or goes on, behind a step."""
        self.log.write("start", step, **facts)

    def measured(self, step: int, task: str, dataset: str, metrics: Mapping[str, float], items: int) -> None:
        """A task has been measured on part of a dev split."""
        self.log.write("eval", step, task=task, set=dataset, metrics=dict(metrics), items=items)
        figures = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        self.display.note(f"step {step}: {task} on {dataset}: {figures} ({items} items)")
        self.display.measured(task, figures)
        if self.board is not None:
            for name, value in metrics.items():
                self.board.add_scalar(f"{dataset}/{name}", value, step)

    def saved(self, step: int, **seconds: float) -> None:
        """The checkpoint of a step is complete."""
        self.log.write("saved", step, **seconds)

    def noted(self, kind: str, step: int, text: str, **facts: Any) -> None:
        """Something out of the ordinary, such as an item that could not be read."""
        self.log.write(kind, step, **facts)
        self.display.note(text)

    def note(self, text: str) -> None:
        """A line for whoever watches."""
        self.display.note(text)


class Silence:
    """The telemetry of all other ranks: none."""

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def trained(self, step: int, task: str, loss: float, **facts: Any) -> None:
        pass

    def began(self, step: int, **facts: Any) -> None:
        pass

    def measured(self, step: int, task: str, dataset: str, metrics: Mapping[str, float], items: int) -> None:
        pass

    def saved(self, step: int, **seconds: float) -> None:
        pass

    def noted(self, kind: str, step: int, text: str, **facts: Any) -> None:
        pass

    def note(self, text: str) -> None:
        pass


def _tensorboard(folder: StageFolder, start: int, stack: ExitStack) -> Any:
    """A SummaryWriter that forgets what a stopped run said about later steps, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer = SummaryWriter(str(folder.path), purge_step=start + 1 if start else None)
    stack.callback(writer.close)
    return writer
