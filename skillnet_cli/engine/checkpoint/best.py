"""Keeps the model of the best evaluation, for each task and for all of them together, as folders ready for use."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from skillnet_cli.api import Reader, UserError
from skillnet_cli.evaluation.metrics import higher_is_better
from skillnet_cli.files import disk_errors, write_json
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry
from skillnet_cli.runs import Result, StageFolder, replace_linked
from skillnet_cli.untrusted import Untrusted, read_json, validate

MEAN = "mean"

_Figure = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Step = Annotated[str, Field(pattern=r"^[0-9]{1,15}$")]


class _Document(BaseModel):
    """What ``best.json`` must be, whoever wrote it; see :class:`_Record`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    higher_is_better: dict[str, bool] = {}
    measured: dict[_Step, dict[str, _Figure]] = {}
    best: dict[str, dict[str, int | _Figure]] = {}

    @model_validator(mode="after")
    def _kept_were_measured(self) -> _Document:
        for place, facts in self.best.items():
            figures = self.measured.get(str(facts.get("step")), {})
            if place != MEAN and place.removeprefix("tasks/") not in figures:
                raise ValueError(f"'{place}' was not measured at the step of its best")
            if not figures:
                raise ValueError(f"no step of '{place}'")
        return self


@dataclass
class _Record:
    """``best.json``.

    Attributes:
        higher_is_better: by task, of its first metric.
        measured: step -> task -> figure.
        best: folder below ``best/`` -> its step and figure.
    """

    higher_is_better: dict[str, bool] = field(default_factory=dict)
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    best: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> _Record:
        """An empty one where there is none. Raises UserError where it is damaged."""
        if not path.exists():
            return cls()
        try:
            document = read_json(path)
            validate(_Document, document)
            return cls(**document)
        except Untrusted as error:
            raise UserError(f"{path} is damaged ({error}): delete it to compare evaluations from now on") from error

    def write(self, path: Path) -> None:
        """Write it."""
        write_json(path, self.__dict__)

    def is_better(self, task: str, figure: float, other: float) -> bool:
        """Whether a figure of a task is better than another."""
        return figure > other if self.higher_is_better[task] else figure < other

    def mean_rank(self, step: int) -> float:
        """The mean over tasks of the ranks of a step's figures among all steps; equals share the mean of theirs."""
        ranks = [self._rank(task, figure) for task, figure in self.measured[str(step)].items()]
        return sum(ranks) / len(ranks)

    def _rank(self, task: str, figure: float) -> float:
        all_ = [figures[task] for figures in self.measured.values() if task in figures]
        return 0.5 + sum(self.is_better(task, each, figure) + 0.5 * (each == figure) for each in all_)


@dataclass(frozen=True)
class Best:
    """The best models of a stage: ``best/tasks/TASK`` by the task's first metric, ``best/mean`` by mean rank.

    A task's figure is the mean over its dev splits. A new model takes the place of the one that is kept where its mean
    rank, among all evaluations so far, is the lower of the two. ``kinds`` says which of both are kept.
    """

    folder: StageFolder
    kinds: Sequence[str]
    readers: Mapping[str, Reader]
    registry: Registry

    def consider(self, step: int, results: Sequence[Result], model: SkillNet) -> list[str]:
        """Keep the model measured after ``step`` steps where it is the best. Returns a line for each place it takes.

        A step that has been considered already, by a run that was stopped later, was as good then. A figure that is no
        finite number is never the best one.

        Raises:
            UserError: best.json is damaged.
            FailedJob: the disk does not take the model.
        """
        strange = {result.task for result in results if not all(map(math.isfinite, result.metrics.values()))}
        results = [result for result in results if result.metrics and result.task not in strange]
        if not (self.kinds and results):
            return []
        path = self.folder.best / "best.json"
        record = _Record.read(path)
        if str(step) in record.measured:
            return []
        self.folder.best.mkdir(parents=True, exist_ok=True)
        metrics = {result.task: next(iter(result.metrics)) for result in results}
        record.higher_is_better |= {task: higher_is_better(metric, self.registry) for task, metric in metrics.items()}
        record.measured[str(step)] = {task: _mean(results, task, metric) for task, metric in metrics.items()}
        won = dict(self._won_tasks(step, record, metrics))
        if not strange:  # else the other tasks' ranks alone are no mean of all
            won |= self._won_mean(step, record)
        self._keep(model, list(won))
        record.best |= {place: {"step": step, **figure} for place, figure in won.items()}
        record.write(path)
        return [f"step {step}: the best so far is {self.folder.best / place}" for place in won]

    def _won_tasks(
        self, step: int, record: _Record, metrics: Mapping[str, str]
    ) -> Iterator[tuple[str, dict[str, float]]]:
        for task, figure in record.measured[str(step)].items() if "tasks" in self.kinds else ():
            kept = record.best.get(f"tasks/{task}")
            if kept is None or record.is_better(task, figure, record.measured[str(kept["step"])][task]):
                yield f"tasks/{task}", {metrics[task]: figure}

    def _won_mean(self, step: int, record: _Record) -> Iterator[tuple[str, dict[str, float]]]:
        kept = record.best.get(MEAN)
        rank = record.mean_rank(step)
        if MEAN in self.kinds and (kept is None or rank < record.mean_rank(kept["step"])):
            yield MEAN, {"mean_rank": rank}

    def _keep(self, model: SkillNet, places: Sequence[str]) -> None:
        """Save the model once, and link its files into each place."""
        if not places:
            return
        fresh = self.folder.best / ".fresh"
        with disk_errors(fresh):
            model.save(fresh, self.readers)
            for place in places:
                replace_linked(fresh, self.folder.best / place)
        shutil.rmtree(fresh)


def _mean(results: Sequence[Result], task: str, metric: str) -> float:
    figures = [result.metrics[metric] for result in results if result.task == task]
    return sum(figures) / len(figures)
