"""One update: forward, backward, the gradient of the global mean, one step of the optimizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import AdamW

from skillnet_cli.data.pipeline import TaskBatch
from skillnet_cli.engine.distribution import Ranks, sync_gradients, whole
from skillnet_cli.engine.optimizer import set_learning_rate
from skillnet_cli.engine.schedules import learning_rate
from skillnet_cli.engine.seeding import seed_torch
from skillnet_cli.engine.stopping import SIGNALS
from skillnet_cli.model.precision import autocast
from skillnet_cli.model.skillnet import SkillNet
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
    """What one update came to, over all ranks. ``stop`` is the number of a signal that some rank received."""

    task: str
    loss: float
    count: int
    lr: float
    grad_norm: float
    applied: bool
    stop: int
    damaged: int


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
    strategy: str = "replicate"

    def update(self, batches: Sequence[TaskBatch], signal: int = 0) -> Outcome:
        """Train on this rank's micro-batches of the next step; all ranks do so together, on the same task.

        An update whose loss or gradient is not finite is not applied: parameters, moments and the learning rate's
        schedule stay as they are.
        """
        seed_torch(self.seed, self.progress.step, self.ranks.rank)
        rate = self._learning_rate()
        totals = self.ranks.sum(self._backward(batches, signal))
        loss_sum, count, damaged, *votes = totals.tolist()
        loss = loss_sum / count if count else math.nan
        norm = self._apply(self.ranks.world / count, rate) if math.isfinite(loss) else math.nan
        applied = math.isfinite(norm)
        self._advance(applied)
        return Outcome(batches[0].task, loss, int(count), rate, norm, applied, first_signal(votes), int(damaged))

    def _learning_rate(self) -> float:
        stage = self.stage
        return learning_rate(
            self.progress.applied, peak=stage.lr, steps=stage.steps, warmup=stage.warmup, schedule=stage.schedule
        )

    def _backward(self, batches: Sequence[TaskBatch], signal: int) -> Tensor:
        """Add up the gradients of the summed loss. Returns loss, count, damaged items, and a vote for each signal."""
        device = self.ranks.device
        votes = [0.0 + (signal == number) for number in SIGNALS]
        totals = torch.tensor([0.0, 0.0, 0.0, *votes], dtype=torch.float64, device=device)
        self.optimizer.zero_grad(set_to_none=True)
        for number, batch in enumerate(batches, 1):
            sync_gradients(self.model, number == len(batches))
            towers = [[to_device(segment, device) for segment in tower] for tower in batch.towers]
            with autocast(self.precision, device):
                loss, count = self.model(batch.task, towers, to_device(batch.targets, device))
            loss.backward()
            totals[0] += loss.detach()
            totals[1] += count
            totals[2] += len(batch.damaged)
        return totals

    def _apply(self, scale: float, rate: float) -> float:
        """Step with the gradients times ``scale``, clipped. Returns their norm; no step is made if it is not finite."""
        parameters = (parameter for group in self.optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = float(whole(get_total_norm(gradients))) * scale
        if math.isfinite(norm):
            torch._foreach_mul_(gradients, scale * min(1.0, self.stage.clip / (norm + 1e-12)))
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
        return norm

    def _advance(self, applied: bool) -> None:
        self.progress.step += 1
        self.progress.skipped += not applied
        self.progress.skipped_in_row = 0 if applied else self.progress.skipped_in_row + 1


def first_signal(votes: Sequence[float]) -> int:
    """The number of a signal that some rank has voted for, 0 if none has."""
    return next((int(number) for number, count in zip(SIGNALS, votes, strict=True) if count), 0)


def to_device(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The same tensors on another device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
