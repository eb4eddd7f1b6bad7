"""One update: the gradient of the global mean, one step of the optimizer, and what they came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import AdamW

from skillnet_cli.data.pipeline import TaskBatch
from skillnet_cli.engine.averaging import MovingAverage
from skillnet_cli.engine.backward import Computation, backward, duplicates
from skillnet_cli.engine.optimizer import set_learning_rate
from skillnet_cli.engine.ranks.distribution import Ranks, whole
from skillnet_cli.engine.schedules import learning_rate
from skillnet_cli.engine.stopping import SIGNALS
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives.base import Limited
from skillnet_cli.recipe.schema import Stage


@dataclass
class Progress:
    """How far a stage has come: steps done, how many of them were not applied, and how many of those just now."""

    step: int = 0
    skipped: int = 0
    skipped_in_row: int = 0

    @property
    def applied(self) -> int:
        """Updates that the parameters have seen; the learning rate goes by them."""
        return self.step - self.skipped


@dataclass(frozen=True)
class Outcome:
    """What one update came to, over all ranks.

    ``stop`` is the number of a signal that some rank received. ``duplicates`` counts the items that were the same as
    another of the batch, in a task that compares them, and is None in others.
    """

    task: str
    loss: float
    count: int
    lr: float
    grad_norm: float
    applied: bool
    stop: int
    damaged: int
    duplicates: int | None = None


@dataclass
class Updater:
    """Turns the micro-batches of a step into an update of the model.

    ``precision`` is ``"bf16"`` or ``"fp32"``, ``strategy`` how the model is laid out over the ranks.
    """

    model: SkillNet
    optimizer: AdamW
    stage: Stage
    precision: str
    seed: int
    ranks: Ranks
    progress: Progress = field(default_factory=Progress)
    average: MovingAverage | None = None
    strategy: str = "replicate"

    def update(self, batches: Sequence[TaskBatch], signal: int = 0) -> Outcome:
        """Train on this rank's micro-batches of the next step; all ranks do so together, on the same task.

        An update whose loss or gradient is not finite is not applied: parameters, moments and the learning rate's
        schedule stay as they are.
        """
        task, rate = batches[0].task, self._learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        computation = self._computation(task)
        loss, count = backward(computation, batches)
        alike = duplicates(computation, batches)
        replaced = float(sum(len(batch.damaged) for batch in batches))
        signals = (float(signal == number) for number in SIGNALS)
        own = (loss, count, replaced, 0.0 if alike is None else alike, *signals)
        total, counted, damaged, same, *votes = self._over_ranks(*own)
        mean = total / counted if counted else math.nan
        norm = self._apply(task, self.ranks.world / counted, rate) if math.isfinite(mean) else math.nan
        applied = math.isfinite(norm)
        self._advance(applied)
        found = None if alike is None else int(same)
        return Outcome(task, mean, int(counted), rate, norm, applied, first_signal(votes), int(damaged), found)

    def _learning_rate(self) -> float:
        stage = self.stage
        return learning_rate(
            self.progress.applied, peak=stage.lr, steps=stage.steps, warmup=stage.warmup, schedule=stage.schedule
        )

    def _computation(self, task: str) -> Computation:
        position = (self.seed, self.progress.step, self.ranks.rank)
        recompute = self.stage.tasks[task].recompute
        return Computation(self.model, task, self.ranks.device, self.precision, position, recompute)

    def _over_ranks(self, *figures: Tensor | float) -> list[float]:
        """Each figure's sum over all ranks, in one communication."""
        own = [torch.as_tensor(figure, dtype=torch.float64, device=self.ranks.device) for figure in figures]
        found: list[float] = self.ranks.sum(torch.stack(own)).tolist()
        return found

    def _apply(self, task: str, scale: float, rate: float) -> float:
        """Step with the gradients times ``scale``, clipped. Returns their norm; no step is made if it is not finite.

        Heads of the task that keep their parameters within a limit then do so.
        """
        parameters = (parameter for group in self.optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = float(whole(get_total_norm(gradients))) * scale
        if math.isfinite(norm):
            torch._foreach_mul_(gradients, scale * min(1.0, self.stage.clip / (norm + 1e-12)))
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
            limit_heads(self.model, task)
        return norm

    def _advance(self, applied: bool) -> None:
        if applied and self.average is not None:
            self.average.update()
        self.progress.step += 1
        self.progress.skipped += not applied
        self.progress.skipped_in_row = 0 if applied else self.progress.skipped_in_row + 1


def limit_heads(model: SkillNet, task: str) -> None:
    """Let those of a task's heads that have limits keep to them."""
    heads = model.heads_of(task)
    for name in model.objectives[task].heads(model.config.hidden):
        if isinstance(head := heads[name], Limited):
            head.limit()


def first_signal(votes: Sequence[float]) -> int:
    """The number of a signal that some rank has voted for, 0 if none has."""
    return next((int(number) for number, count in zip(SIGNALS, votes, strict=True) if count), 0)
