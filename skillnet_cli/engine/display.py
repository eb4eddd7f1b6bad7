"""How a person, or a log, sees a run, on standard error: a table and a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

SECONDS_BETWEEN_LINES = 10.0
REDRAWS_A_SECOND = 2


class Display(ABC):
    """What both kinds of display do."""

    @abstractmethod
    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """A step is done; ``losses`` are the tasks' running means."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Something worth a line of its own."""

    def trained(self, task: str, facts: Mapping[str, float]) -> None:  # noqa: B027 - lines do without
        """An update of a task is done; ``facts`` are its numbers, as metrics.jsonl has them."""

    def measured(self, task: str, figures: str) -> None:  # noqa: B027 - noted, too
        """A task has been measured; ``figures`` says what it came to."""


@dataclass
class Row:
    """What the table says of a task."""

    updates: int = 0
    rate: float = 0.0
    of_peak: float = 0.0
    measured: str = ""


class TaskTable:
    """A row for each task, drawn anew whenever rich asks for it."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.losses: Mapping[str, float] = {}

    def row(self, task: str) -> Row:
        """The task's row, made where it is new."""
        return self.rows.setdefault(task, Row())

    def __rich__(self) -> Table:
        table = Table("task", "updates", "loss", "samples/s", "of peak", "last measured", box=SIMPLE_HEAD)
        for name, row in self.rows.items():
            loss = f"{self.losses[name]:.3f}" if name in self.losses else ""
            table.add_row(name, f"{row.updates:,}", loss, f"{row.rate:,.1f}", f"{row.of_peak:.0%}", row.measured)
        return table


class Bar(Display):
    """A table of the tasks above a progress bar, for a person who watches."""

    def __init__(self, progress: Progress, bar: TaskID, table: TaskTable | None = None) -> None:
        self.progress = progress
        self.bar = bar
        self.table = table or TaskTable()

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        self.table.losses = dict(losses)
        self.progress.update(self.bar, completed=step, losses=_said(losses))

    def note(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, markup=False)

    def trained(self, task: str, facts: Mapping[str, float]) -> None:
        row = self.table.row(task)
        row.updates += 1
        row.rate, row.of_peak = facts.get("samples_per_second", 0.0), facts.get("of_peak", 0.0)

    def measured(self, task: str, figures: str) -> None:
        self.table.row(task).measured = figures


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
    console, table = Console(stderr=True), TaskTable()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console)
    live = Live(Group(table, progress), console=console, refresh_per_second=REDRAWS_A_SECOND)
    stack.enter_context(live)
    return Bar(progress, progress.add_task(stage, total=steps, completed=start, losses=""), table)


def _said(losses: Mapping[str, float]) -> str:
    return ", ".join(f"{task} {loss:.3f}" for task, loss in losses.items())
