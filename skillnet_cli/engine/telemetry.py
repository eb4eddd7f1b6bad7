"""What a run tells while it goes: metrics.jsonl, a progress bar or plain lines, TensorBoard where it is installed."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from skillnet_cli.engine.folders import StageFolder
from skillnet_cli.engine.metrics import MetricsLog

SECONDS_BETWEEN_LINES = 10.0
SMOOTHING = 0.9


class Display(Protocol):
    """How a person, or a log, sees the run."""

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """A step is done; ``losses`` are the tasks' running means."""

    def note(self, text: str) -> None:
        """Something worth a line of its own."""


class Telemetry:
    """The rank that writes: every update and evaluation goes to the file, the screen and TensorBoard."""

    def __init__(self, folder: StageFolder, stage: str, start: int, steps: int) -> None:
        self.log = MetricsLog(folder.metrics, start)
        self.stack = ExitStack()
        self.stack.callback(self.log.close)
        self.display = _display(stage, start, steps, self.stack)
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
        self.display.step(step, self.losses)
        if self.board is not None:
            self.board.add_scalar(f"loss/{task}", loss, step)
            self.board.add_scalar("lr", facts["lr"], step)

    def measured(self, step: int, task: str, dataset: str, metrics: Mapping[str, float], items: int) -> None:
        """A task has been measured on part of a dev split."""
        self.log.write("eval", step, task=task, set=dataset, metrics=dict(metrics), items=items)
        figures = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        self.display.note(f"step {step}: {task} on {dataset}: {figures} ({items} items)")
        if self.board is not None:
            for name, value in metrics.items():
                self.board.add_scalar(f"{dataset}/{name}", value, step)

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

    def measured(self, step: int, task: str, dataset: str, metrics: Mapping[str, float], items: int) -> None:
        pass

    def noted(self, kind: str, step: int, text: str, **facts: Any) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Bar:
    """A progress bar with the running losses, for a person who watches."""

    def __init__(self, progress: Progress, bar: TaskID) -> None:
        self.progress = progress
        self.bar = bar

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        self.progress.update(self.bar, completed=step, losses=_losses(losses))

    def note(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, markup=False)


class Lines:
    """A plain line every few seconds, for logs."""

    def __init__(self, stage: str, start: int, steps: int) -> None:
        self.stage = stage
        self.steps = steps
        self.last = (time.monotonic(), start)

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        now, (before, last) = time.monotonic(), self.last
        if now - before >= SECONDS_BETWEEN_LINES or step == self.steps:
            rate = (step - last) / max(now - before, 1e-9)
            self.note(f"{self.stage} step {step}/{self.steps} ({rate:.2f} steps/s): {_losses(losses)}")
            self.last = (now, step)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def _losses(losses: Mapping[str, float]) -> str:
    return ", ".join(f"{task} {loss:.3f}" for task, loss in losses.items())


def _display(stage: str, start: int, steps: int, stack: ExitStack) -> Display:
    if not sys.stderr.isatty():
        return Lines(stage, start, steps)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, TextColumn("{task.fields[losses]}"), console=Console(stderr=True))
    stack.enter_context(progress)
    return Bar(progress, progress.add_task(stage, total=steps, completed=start, losses=""))


def _tensorboard(folder: StageFolder, start: int, stack: ExitStack) -> Any:
    """A SummaryWriter that forgets what a stopped run said about later steps, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer = SummaryWriter(str(folder.path), purge_step=start + 1 if start else None)
    stack.callback(writer.close)
    return writer
