"""What a run reports: to metrics.jsonl, to the person who watches, to TensorBoard where it is installed."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from skillnet_cli.data.pipeline import TaskBatch
from skillnet_cli.engine.checkpoint.writer import Saved
from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.engine.estimate.cost import checkpoint_bytes, kept_beside
from skillnet_cli.engine.plan import StagePlan, TaskPlan
from skillnet_cli.engine.step import UpdateResult
from skillnet_cli.files import disk_errors
from skillnet_cli.model.analysis import Flops
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.runs import MetricsLog, Result, StageFolder, read_metrics
from skillnet_cli.terminal import is_quiet, print_error
from skillnet_cli.untrusted import printable

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_SMOOTHING = 0.9
"""The weight of the mean so far in the losses that are shown: about the last ten updates of a task."""
_BY_TASK = frozenset({"grad_norm", "count", "samples_per_second", "tflops", "of_peak"})
"""Numbers of an update that differ from task to task, and have a curve for each in TensorBoard."""
_SECONDS_BETWEEN_LINES = 10.0
_REDRAWS_A_SECOND = 2
_NAMED = 3
"""Names listed before the rest is only counted."""


class Telemetry:
    """What happens in a stage, written down and shown: on the main rank; on the others nothing comes of any call."""

    def __init__(self, plan: StagePlan, folder: StageFolder, start: int, enabled: bool = True) -> None:
        """Continue behind step ``start``: what a stopped run wrote about later steps is dropped.

        Args:
            plan: of the stage.
            folder: where metrics.jsonl and TensorBoard's events are.
            start: steps done.
            enabled: whether this is the main rank.
        """
        self._plan = plan
        self._folder = folder
        self._losses: dict[str, float] = {}
        self._log: MetricsLog | None = None
        self._board: SummaryWriter | None = None
        self._display = _Display()
        self._open = ExitStack()
        if enabled:
            # A stage that was stopped while it finished measures its result again.
            self._log = MetricsLog(folder.metrics, start, ("eval", "mix") if start == plan.stage.steps else ())
            self._open.callback(self._log.close)
            self._display = _open_display(plan.name, start, plan.stage.steps, self._open)
            self._board = _open_tensorboard(folder, start, self._open)
            if self._log.damaged:
                self._display.message(self._log.damaged)

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def started(self, step: int, **facts: Any) -> None:
        """The run starts, or resumes, behind a step."""
        self._write("start", step, facts)

    def updated(self, step: int, result: UpdateResult, batches: Sequence[TaskBatch], **figures: int | float) -> None:
        """An update is done.

        Args:
            step: counted from 1.
            result: what it came to.
            batches: this rank's, with the items in them that were replaced.
            figures: seconds, rates and other numbers of this update.
        """
        facts = {"lr": result.lr, "grad_norm": result.grad_norm, "count": result.count, **figures}
        if result.duplicates is not None:
            facts["duplicates"] = result.duplicates
        self._write("train", step, {"task": result.task, "loss": result.loss, **facts})
        if not math.isnan(result.loss):
            before = self._losses.get(result.task, result.loss)
            self._losses[result.task] = _SMOOTHING * before + (1 - _SMOOTHING) * result.loss
        self._display.updated(result.task, facts)
        self._display.step(step, self._losses)
        if self._board is not None:
            self._board.add_scalar(f"loss/{result.task}", result.loss, step)
            for name, value in facts.items():
                self._board.add_scalar(f"{name}/{result.task}" if name in _BY_TASK else name, value, step)
        if not result.applied:
            text = f"step {step}: {result.task} had no finite loss or gradient; the update is skipped"
            self.event("skipped", step, text, task=result.task)
        for item, reason in (each for batch in batches for each in batch.damaged):
            text = f"step {step}: {result.task}: item {item} is replaced: {reason}"
            self.event("damaged", step, text, task=result.task, id=item, reason=reason)

    def evaluated(self, step: int, result: Result) -> None:
        """A task has been evaluated on part of a dev split."""
        facts = {"task": result.task, "set": result.set, "metrics": dict(result.metrics), "items": result.items}
        self._write("eval", step, facts)
        figures = ", ".join(f"{name} {value:.3f}" for name, value in result.metrics.items())
        self._display.message(f"step {step}: {result.task} on {result.set}: {figures} ({result.items} items)")
        self._display.evaluated(result.task, figures)
        if self._board is not None:
            for name, value in result.metrics.items():
                self._board.add_scalar(f"{result.set}/{name}", value, step)

    def saved(self, checkpoint: Saved | None) -> None:
        """A checkpoint has become complete; None where none has."""
        if checkpoint is not None:
            self._write("saved", checkpoint.step, {"held": checkpoint.held, "seconds": checkpoint.seconds})

    def finished(self, step: int, model: Path) -> None:
        """The stage is done: show what its tasks really got, of this run and those that it continued."""
        mix = _realised_mix(self._plan, read_metrics(self._folder.metrics))
        self.event("mix", step, "\n".join(["trained", *_mix_lines(mix)]), tasks=mix)
        self.message(f"{self._plan.name} has finished: {model}")

    def event(self, kind: str, step: int, text: str, **facts: Any) -> None:
        """Something out of the ordinary, such as an item that could not be read.

        Args:
            kind: the row's kind in metrics.jsonl.
            step: when.
            text: for the person who watches.
            facts: for the row.
        """
        self._write(kind, step, facts)
        self._display.message(text)

    def message(self, text: str) -> None:
        """A line for the person who watches, and for nobody else."""
        self._display.message(text)

    def _write(self, kind: str, step: int, facts: Mapping[str, Any]) -> None:
        if self._log is not None:
            self._log.write(kind, step, **facts)


def _open_tensorboard(folder: StageFolder, start: int, stack: ExitStack) -> SummaryWriter | None:
    """A writer that forgets what a stopped run wrote about later steps, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    with disk_errors(folder.path):
        writer = SummaryWriter(str(folder.path), purge_step=start + 1 if start else None)
    stack.callback(writer.close)
    return writer


class _Display:
    """Shows nothing: the display of ranks that are not the main one."""

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """A step is done; ``losses`` are the tasks' running means."""

    def updated(self, task: str, facts: Mapping[str, int | float]) -> None:
        """An update of a task is done; ``facts`` are its numbers, as metrics.jsonl has them."""

    def evaluated(self, task: str, figures: str) -> None:
        """A task has been evaluated; ``figures`` are its metrics."""

    def message(self, text: str) -> None:
        """Something worth a line of its own."""


def _open_display(stage: str, start: int, steps: int, stack: ExitStack) -> _Display:
    """The display that suits standard error; ``stack`` closes it."""
    if is_quiet():
        return _Display()
    if not sys.stderr.isatty():
        return _Lines(stage, start, steps)
    display = _Table(stage, start, steps)
    stack.enter_context(display.live)
    return display


class _Lines(_Display):
    """A plain line every few seconds, for logs."""

    def __init__(self, stage: str, start: int, steps: int) -> None:
        self._stage = stage
        self._steps = steps
        self._last = (time.monotonic(), start)

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        now, (before, last) = time.monotonic(), self._last
        if now - before >= _SECONDS_BETWEEN_LINES or step == self._steps:
            rate = (step - last) / max(now - before, 1e-9)
            shown = ", ".join(f"{task} {loss:.3f}" for task, loss in losses.items())
            self.message(f"{self._stage} step {step}/{self._steps} ({rate:.2f} steps/s): {shown}")
            self._last = (now, step)

    def message(self, text: str) -> None:
        print_error(text)


@dataclass
class _Row:
    """What the table shows of a task."""

    updates: int = 0
    rate: float = 0.0
    of_peak: float = 0.0
    evaluated: str = ""


class _Table(_Display):
    """A row for each task above a progress bar, for a person who watches."""

    def __init__(self, stage: str, start: int, steps: int) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console)
        self._bar = self._progress.add_task(stage, total=steps, completed=start)
        self._rows: dict[str, _Row] = {}
        self._losses: Mapping[str, float] = {}
        self.live = Live(Group(self, self._progress), console=console, refresh_per_second=_REDRAWS_A_SECOND)

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        self._losses = dict(losses)  # a copy: the table is drawn by a thread of rich's
        self._progress.update(self._bar, completed=step)

    def updated(self, task: str, facts: Mapping[str, int | float]) -> None:
        row = self._rows.setdefault(task, _Row())
        row.updates += 1
        row.rate, row.of_peak = facts.get("samples_per_second", 0.0), facts.get("of_peak", 0.0)

    def evaluated(self, task: str, figures: str) -> None:
        self._rows.setdefault(task, _Row()).evaluated = figures

    def message(self, text: str) -> None:
        # The names of items may look like markup.
        self._progress.console.print(printable(text), highlight=False, markup=False)

    def __rich__(self) -> Table:
        table = Table("task", "updates", "loss", "samples/s", "of peak", "last evaluation", box=SIMPLE_HEAD)
        for name, row in list(self._rows.items()):
            loss = f"{self._losses[name]:.3f}" if name in self._losses else ""
            table.add_row(name, f"{row.updates:,}", loss, f"{row.rate:,.1f}", f"{row.of_peak:.0%}", row.evaluated)
        return table


def _realised_mix(plan: StagePlan, rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each task the updates made and skipped, the samples seen and the epochs they make, from the run's rows."""
    updates, skipped = Counter[str](), Counter[str]()
    for row in rows:
        counter = {"train": updates, "skipped": skipped}.get(row["kind"])
        if counter is not None:
            counter[str(row.get("task"))] += 1
    mix = {}
    for name, task in plan.tasks.items():
        samples, items = updates[name] * task.settings.batch, sum(map(len, task.splits))
        mix[name] = {"updates": updates[name], "skipped": skipped[name], "samples": samples, "epochs": samples / items}
    return mix


def _mix_lines(mix: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The same for the person who watches, a line a task."""
    total = sum(each["updates"] for each in mix.values())
    for name, each in mix.items():
        skipped = f", {each['skipped']:,} skipped" if each["skipped"] else ""
        share = f"{each['updates']:,} of {total:,} updates{skipped}"
        yield f"  {name}: {share}, {each['samples']:,} samples ({each['epochs']:.1f} epochs)"


def banner(
    plan: StagePlan, model: SkillNet, ranks: Ranks, precision: str, start: Path | None, missing: Sequence[str]
) -> Iterator[str]:
    """The stage in a line, then a line a task.

    Args:
        plan: of the stage.
        model: with its first parameters, in one piece.
        ranks: who trains it.
        precision: what is computed in, and how the model is laid out.
        start: the folder that the parameters come from, None where they are newly initialised.
        missing: parameters that this folder does not have.
    """
    stage = plan.stage
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    threads = f", {torch.get_num_threads()} threads each" if ranks.device.type == "cpu" else ""
    yield (
        f"{plan.name} of {plan.recipe.name}: {stage.steps:,} steps at lr {stage.lr:g} ({stage.schedule}, "
        f"{stage.warmup:,} to warm up), {total / 1e6:.1f} M parameters, {precision}, seed {plan.recipe.seed}, "
        f"{ranks.world} {ranks.device.type} process{'es' if ranks.world > 1 else ''}{threads}"
    )
    rest = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    lacking = f", which lacks {', '.join(missing[:_NAMED])}{rest} (newly initialised)" if missing else ""
    yield f"  from {start or 'newly initialised parameters'}{lacking}"
    inherited = plan.weight_inheritance()
    if start and inherited:
        earlier = plan.recipe.pretrain.tasks if plan.recipe.pretrain else {}
        fresh = [f"{name} newly initialised" for name in plan.tasks if name not in inherited and name not in earlier]
        yield f"  started: {', '.join([*(f'{name} from {source}' for name, (source, _) in inherited.items()), *fresh])}"
    if stage.freeze:
        yield f"  frozen: {', '.join(stage.freeze)}; {trained / 1e6:.1f} M parameters train"
    ratios, flops = sum(task.settings.ratio for task in plan.tasks.values()), Flops(model)
    for name, task in plan.tasks.items():
        counted = flops.of_task(name)
        work = f" ({sum(counted.values()) / 1e9:.1f} GFLOPs forward for its longest item)" if counted else ""
        activated = f"{model.activated_parameters(name) / 1e6:.1f} M activated{work}"
        yield f"  {name}: {_share_and_data(task, stage.steps, ratios)}, {activated}"
    for name, task in plan.tasks.items() if stage.eval else ():
        for line in task.unmeasured():
            yield f"  {name} is not measured as it trains: {line}"
    saved = checkpoint_bytes(total, trained, kept_beside(stage))
    yield f"  checkpoints of {saved / 1e9:.2f} GB every {stage.checkpoints.every:,} steps"


def _share_and_data(task: TaskPlan, steps: int, ratios: int) -> str:
    items = sum(map(len, task.splits))
    seen = steps * task.settings.ratio / ratios * task.settings.batch
    batch = f"batches of {task.settings.batch:,}"
    if task.objective.compares:  # a loss of ln(batch) is what guessing has
        batch += f" ({task.settings.batch - 1:,} negatives, chance {math.log(task.settings.batch):.2f})"
    share = f"{task.settings.ratio}/{ratios} of the updates"
    return f"{share}, {batch}, {items:,} items of {' + '.join(task.sets)} ({seen / items:.1f} epochs)"


def log_lines(ranks: Ranks, lines: Iterable[str]) -> None:
    """Print lines on standard error, on the main rank alone."""
    if ranks.is_main and not is_quiet():
        for line in lines:
            print_error(line)
