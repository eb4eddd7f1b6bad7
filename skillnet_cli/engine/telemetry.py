"""What a run reports while it goes: to metrics.jsonl, to whoever watches, to TensorBoard where it is installed."""

from __future__ import annotations

import math
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.engine.estimate.cost import checkpoint_bytes, kept_beside
from skillnet_cli.engine.plan import StagePlan, TaskPlan
from skillnet_cli.engine.setup import weight_inheritance
from skillnet_cli.model.analysis import Flops
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.runs import MetricsLog, StageFolder

SECONDS_BETWEEN_LINES = 10.0
REDRAWS_A_SECOND = 2


class _Display(ABC):
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
class _Row:
    """What the table says of a task."""

    updates: int = 0
    rate: float = 0.0
    of_peak: float = 0.0
    measured: str = ""


class TaskTable:
    """A row for each task, drawn anew whenever rich asks for it."""

    def __init__(self) -> None:
        self.rows: dict[str, _Row] = {}
        self.losses: Mapping[str, float] = {}

    def row(self, task: str) -> _Row:
        """The task's row, made where it is new."""
        return self.rows.setdefault(task, _Row())

    def __rich__(self) -> Table:
        table = Table("task", "updates", "loss", "samples/s", "of peak", "last measured", box=SIMPLE_HEAD)
        for name, row in self.rows.items():
            loss = f"{self.losses[name]:.3f}" if name in self.losses else ""
            table.add_row(name, f"{row.updates:,}", loss, f"{row.rate:,.1f}", f"{row.of_peak:.0%}", row.measured)
        return table


class Bar(_Display):
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


class Lines(_Display):
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


def open_display(stage: str, start: int, steps: int, stack: ExitStack) -> _Display:
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


def realised_mix(plan: StagePlan, rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each task the updates made and left out, the samples seen and the epochs they make, from the run's rows."""
    updates, skipped = Counter[str](), Counter[str]()
    for row in rows:
        counter = {"train": updates, "skipped": skipped}.get(row["kind"])
        if counter is not None:
            counter[row["task"]] += 1
    mix = {}
    for name, task in plan.tasks.items():
        samples, items = updates[name] * task.settings.batch, sum(map(len, task.splits))
        mix[name] = {"updates": updates[name], "skipped": skipped[name], "samples": samples, "epochs": samples / items}
    return mix


def mix_lines(mix: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The same for whoever watches, a line a task."""
    total = sum(each["updates"] for each in mix.values())
    for name, each in mix.items():
        left_out = f", {each['skipped']:,} left out" if each["skipped"] else ""
        share = f"{each['updates']:,} of {total:,} updates{left_out}"
        yield f"  {name}: {share}, {each['samples']:,} samples ({each['epochs']:.1f} epochs)"


NAMED = 3
"""Names listed before the rest is only counted."""


def banner(
    plan: StagePlan, model: SkillNet, ranks: Ranks, precision: str, start: Path | None, fresh: Sequence[str]
) -> Iterator[str]:
    """The stage in a line, then a line a task.

    ``start`` is the folder that the parameters come from, ``fresh`` are those that it does not have.
    """
    stage = plan.stage
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    yield (
        f"{plan.name} of {plan.recipe.name}: {stage.steps:,} steps at lr {stage.lr:g} ({stage.schedule}, "
        f"{stage.warmup:,} to warm up), {total / 1e6:.1f} M parameters, {precision}, "
        f"seed {plan.recipe.seed}, {_place(ranks)}"
    )
    yield f"  from {start or 'fresh parameters'}{_named(fresh)}"
    if start:
        yield from _started(plan)
    if stage.freeze:
        yield f"  frozen: {', '.join(stage.freeze)}; {trained / 1e6:.1f} M parameters train"
    ratios, flops = sum(task.settings.ratio for task in plan.tasks.values()), Flops(model)
    for name, task in plan.tasks.items():
        activated = f"{model.activated_parameters(name) / 1e6:.1f} M activated{_work(flops.of_task(name))}"
        yield f"  {name}: {_task(task, stage.steps, ratios)}, {activated}"
    saved = checkpoint_bytes(total, trained, kept_beside(stage))
    yield f"  checkpoints of {saved / 1e9:.2f} GB every {stage.checkpoints.every:,} steps"


def _started(plan: StagePlan) -> Iterator[str]:
    """What the tasks of a separate model start from, where that is another task's pretraining."""
    found = weight_inheritance(plan)
    if found:
        fresh = [
            name for name in plan.tasks if name not in found and name not in (plan.recipe.pretrain or plan.stage).tasks
        ]
        told = [f"{name} from {ancestor}" for name, ancestor in found.items()]
        yield f"  started: {', '.join([*told, *(f'{name} fresh' for name in fresh)])}"


def log_lines(ranks: Ranks, lines: Iterator[str] | Sequence[str]) -> None:
    """Print lines on standard error, on the main rank alone."""
    if ranks.is_main:
        for line in lines:
            print(line, file=sys.stderr, flush=True)


def _work(flops: Counter[str] | None) -> str:
    return "" if flops is None else f" ({sum(flops.values()) / 1e9:.1f} GFLOPs forward for its longest item)"


def _place(ranks: Ranks) -> str:
    threads = f", {torch.get_num_threads()} threads each" if ranks.device.type == "cpu" else ""
    return f"{ranks.world} {ranks.device.type} process{'es' if ranks.world > 1 else ''}{threads}"


def _named(fresh: Sequence[str]) -> str:
    if not fresh:
        return ""
    more = f" and {len(fresh) - NAMED} more" if len(fresh) > NAMED else ""
    return f", which lacks {', '.join(fresh[:NAMED])}{more} (fresh)"


def _task(task: TaskPlan, steps: int, ratios: int) -> str:
    items = sum(map(len, task.splits))
    seen = steps * task.settings.ratio / ratios * task.settings.batch
    batch = f"batches of {task.settings.batch:,}"
    if task.objective.compares:
        batch += f" ({task.settings.batch - 1:,} negatives, chance {math.log(task.settings.batch):.2f})"
    share = f"{task.settings.ratio}/{ratios} of the updates"
    return f"{share}, {batch}, {items:,} items of {' + '.join(task.sets)} ({seen / items:.1f} epochs)"


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
