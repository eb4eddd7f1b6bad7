"""How a person, or a log, sees a run: a progress bar on a terminal, plain lines elsewhere, both on standard error."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


class Display(ABC):
    """What both kinds of display do."""

    @abstractmethod
    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """A step is done; ``losses`` are the tasks' running means."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Something worth a line of its own."""


class Bar(Display):
    """A progress bar with the running losses, for a person who watches."""

    def __init__(self, progress: Progress, bar: TaskID) -> None:
        self.progress = progress
        self.bar = bar

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        self.progress.update(self.bar, completed=step, losses=_said(losses))

    def note(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, markup=False)


class Lines(Display):
    """A plain line every few seconds, for logs."""

    def __init__(self, stage: str, start: int, steps: int) -> None:
        self.stage = stage
        self.steps = steps
        self.last = (time.monotonic(), start)

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        now, (before, last) = time.monotonic(), self.last
        if now - before >= SECONDS_BETWEEN_LINES or step == self.steps:
            rate = (step - last) / max(now - before, 1e-9)
            self.note(f"{self.stage} step {step}/{self.steps} ({rate:.2f} steps/s): {_said(losses)}")
            self.last = (now, step)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def open_display(stage: str, start: int, steps: int, stack: ExitStack) -> Display:
    """The display that suits standard error; ``stack`` closes it."""
    if not sys.stderr.isatty():
        return Lines(stage, start, steps)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, TextColumn("{task.fields[losses]}"), console=Console(stderr=True))
    stack.enter_context(progress)
    return Bar(progress, progress.add_task(stage, total=steps, completed=start, losses=""))


def _said(losses: Mapping[str, float]) -> str:
    return ", ".join(f"{task} {loss:.3f}" for task, loss in losses.items())
