"""Whether a recipe's training, killed and resumed, ends as it does undisturbed: to the bit, on this machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import tomli_w
import torch
from torch import Tensor

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.engine.checkpoint.format import AVERAGE, MODEL, OPTIMIZER, Checkpoint, Checkpoints
from skillnet_cli.recipe import Recipe
from skillnet_cli.recipe.schema import EmaSection, LastSection, Stage
from skillnet_cli.runs import RunFolder, StageFolder, read_metrics

_COMPARED = ("step", "task", "loss", "lr", "grad_norm", "count")
"""What a row of an update says that no clock has a part in."""
_LOOK_EVERY = 0.005
"""Seconds between two looks at the training that is to be killed: short beside a step."""


@dataclass(frozen=True)
class Comparison:
    """What was compared, and every difference in the order of the steps.

    ``tensors`` and ``values`` have the numbers of both by the kind of tensor: model, optimizer, average.
    """

    stage: str
    steps: int
    tasks: tuple[str, ...]
    killed_after: int
    resumed_from: int
    rows: int
    tensors: dict[str, int]
    values: dict[str, int]
    differences: list[str]


def verify_resume(
    recipe: Recipe, stage: str, steps: int, nproc: int, data: Sequence[Path], log: Callable[[str], None]
) -> Comparison:
    """Train ``steps`` updates of a stage undisturbed, and again killed in the middle and resumed; compare.

    Both trainings are ``skillnet`` commands of their own with ``nproc`` processes each, in a temporary folder; all
    processes of the second are killed by SIGKILL at once.

    Args:
        recipe: as loaded.
        stage: ``"pretrain"`` or ``"finetune"``.
        steps: updates, at least 3.
        nproc: processes that train together.
        data: folders of prepared sets, before the usual ones.
        log: called with a line for each of the trainings.

    Raises:
        UserError: too few steps.
        FailedJob: a training fails, or ends before it could be killed.
    """
    if steps < 3:
        raise UserError(f"{steps} steps are too few to be stopped in the middle: give at least 3")
    with tempfile.TemporaryDirectory(prefix="skillnet-verify-") as folder:
        trial = _Trial(Path(folder), stage, steps, nproc, data)
        trial.write(_shortened(recipe, stage, steps))
        log(f"1/3 training {steps} steps of {stage} undisturbed")
        trial.finish("straight")
        log("2/3 training them again, to be killed in the middle")
        killed_after, resumed_from = trial.kill("killed")
        log(f"3/3 resuming from step {resumed_from} (killed in step {killed_after + 1})")
        trial.finish("killed")
        return _compare(trial, killed_after, resumed_from, _saved_by(recipe.stages()[stage]))


def _shortened(recipe: Recipe, stage: str, steps: int) -> Recipe:
    """The recipe with so few steps, a checkpoint before the middle, and nothing measured."""
    section = recipe.stages()[stage]
    short: dict[str, Any] = {
        "steps": steps,
        "warmup": min(section.warmup, steps // 2),
        "checkpoints": section.checkpoints.model_copy(update={"every": max(1, steps // 3), "keep": 2, "best": ()}),
        "eval": None,
    }
    if isinstance(section.average, LastSection):  # an average at the end of checkpoints that are compared themselves
        short["average"] = None
    if getattr(section, "start_from", None) == "pretrain":
        short["start_from"] = "fresh"
    return recipe.model_copy(update={stage: section.model_copy(update=short)})


def _saved_by(section: Stage) -> tuple[str, ...]:
    """The kinds of tensors that a checkpoint of the stage has."""
    return (MODEL, OPTIMIZER, AVERAGE) if isinstance(section.average, EmaSection) else (MODEL, OPTIMIZER)


@dataclass(frozen=True)
class _Trial:
    """Trainings of one recipe in a temporary folder."""

    folder: Path
    stage: str
    steps: int
    nproc: int
    data: Sequence[Path]

    def write(self, recipe: Recipe) -> None:
        document = recipe.model_dump(mode="json", exclude_none=True)
        (self.folder / "recipe.toml").write_text(tomli_w.dumps(document), encoding="utf-8")

    def finish(self, run: str) -> None:
        """Train to the end."""
        process = self._start(run)
        try:
            code = process.wait()
        except BaseException:
            _kill_all(process.pid)
            raise
        if code:
            raise FailedJob(f"the training itself fails: {self._last_line(run)}")

    def kill(self, run: str) -> tuple[int, int]:
        """Train to the middle and kill all processes. Returns the last update seen and the newest checkpoint's step."""
        process = self._start(run)
        try:
            while process.poll() is None and not self._half_way(run):
                time.sleep(_LOOK_EVERY)
        finally:
            if process.poll() is None:
                _kill_all(process.pid)
            code = process.wait()
        if code > 0:
            raise FailedJob(f"the training itself fails: {self._last_line(run)}")
        newest, last = self.newest(run), self.rows(run)[-1]["step"]
        if newest is None or newest.step == self.steps:
            raise FailedJob(f"the training ended before it could be killed: give more steps than {self.steps}")
        return last, newest.step

    def rows(self, run: str) -> list[dict[str, Any]]:
        """The rows of a run's updates."""
        return [row for row in read_metrics(self._stage_folder(run).metrics) if row["kind"] == "train"]

    def newest(self, run: str) -> Checkpoint | None:
        return Checkpoints(self._stage_folder(run).checkpoints).latest()

    def _half_way(self, run: str) -> bool:
        rows = self.rows(run)
        return bool(rows) and rows[-1]["step"] >= self.steps // 2 and self.newest(run) is not None

    def _stage_folder(self, run: str) -> StageFolder:
        return RunFolder(self.folder / run).stage(self.stage)

    def _start(self, run: str) -> subprocess.Popen[bytes]:
        words = [self.stage, self.folder / "recipe.toml", "--set", f"name={run}", "--runs", self.folder]
        words += ["--nproc", self.nproc, *(word for root in self.data for word in ("--data", root))]
        command = [sys.executable, "-m", "skillnet_cli", *map(str, words)]
        with (self.folder / f"{run}.log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _last_line(self, run: str) -> str:
        lines = (self.folder / f"{run}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].removeprefix("skillnet: error: ") if lines else "it printed nothing"


def _kill_all(pid: int) -> None:
    """SIGKILL a process and everything that it started, itself first, so that it cannot start them again."""
    process = psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            each.kill()


def _compare(trial: _Trial, killed_after: int, resumed_from: int, kinds: Sequence[str]) -> Comparison:
    one, other = trial.rows("straight"), trial.rows("killed")
    differences = list(_row_differences(one, other))
    tensors, values = {}, {}
    for name in kinds:
        tables = [_final(trial, run).tensors(name) for run in ("straight", "killed")]
        differences += _tensor_differences(name, *tables)
        tensors[name], values[name] = len(tables[0]), sum(each.numel() for each in tables[0].values())
    tasks = tuple(dict.fromkeys(row["task"] for row in one))
    counted = (len(one), tensors, values, differences)
    return Comparison(trial.stage, trial.steps, tasks, killed_after, resumed_from, *counted)


def _final(trial: _Trial, run: str) -> Checkpoint:
    newest = trial.newest(run)
    assert newest is not None and newest.step == trial.steps, "a training that has ended has its last checkpoint"
    return newest


def _row_differences(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if [row["step"] for row in one] != [row["step"] for row in other]:
        yield f"metrics.jsonl: {len(one)} updates undisturbed, {len(other)} resumed"
    for left, right in zip(one, other, strict=False):
        for key in _COMPARED:
            if left[key] != right[key]:
                yield f"step {left['step']} ({left['task']}): {key} {left[key]!r} undisturbed, {right[key]!r} resumed"


def _tensor_differences(kind: str, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Iterator[str]:
    for name in dict.fromkeys([*one, *other]):
        if name not in one or name not in other:
            yield f"{kind}: {name} is there only {'undisturbed' if name in one else 'resumed'}"
        elif not torch.equal(one[name], other[name]):
            apart = (one[name] != other[name]).sum().item()
            most = (one[name].double() - other[name].double()).abs().max().item()
            yield f"{kind}: {name}: {apart:,} of {one[name].numel():,} values differ, by up to {most:.3g}"
