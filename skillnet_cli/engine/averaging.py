"""Averages of parameters: over updates while a stage trains (EMA), or over its last checkpoints at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from skillnet_cli.engine.saving.checkpoints import MODEL, Checkpoint
from skillnet_cli.engine.saving.slices import box_of, local


class MovingAverage:
    """The exponential moving average of every parameter over the updates that changed it.

    An update moves the averages of the parameters that it activated: average ← decay · average + (1 - decay) ·
    parameter. Those of other skills stay as they are to the bit, so that a skill's average does not depend on how
    many updates other tasks had. Each rank averages the parts that it holds. It starts from the first parameters.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """``decay`` is in [0, 1); 0 follows the parameters."""
        self.decay = decay
        self._parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self.tensors = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        """The averages, laid out as the parameters are."""

    @torch.no_grad()
    def update(self) -> None:
        """Take in the update just applied; its gradients still tell what it activated."""
        moved = [name for name, parameter in self._parameters.items() if parameter.grad is not None]
        averages = [local(self.tensors[name]) for name in moved]
        parameters = [local(self._parameters[name]) for name in moved]
        torch._foreach_lerp_(averages, parameters, 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """For the time being, the model has the averages for its parameters."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            own, average = local(parameter), local(self.tensors[name])
            kept = own.clone()
            own.copy_(average)
            average.copy_(kept)


@torch.no_grad()
def take_mean(model: nn.Module, checkpoints: Sequence[Checkpoint]) -> None:
    """Give the model, in whatever layout, the mean of the parameters in some checkpoints, added up in float64.

    Raises:
        FailedJob: one is damaged.
    """
    saved = [checkpoint.slices(MODEL) for checkpoint in checkpoints]
    for name, parameter in model.named_parameters():
        box = box_of(parameter)
        total = sum((each.read(name, box).double() for each in saved), torch.zeros(box.size, dtype=torch.float64))
        local(parameter).copy_(total / len(saved))


def averaged_checkpoints(found: Sequence[Checkpoint], every: int, count: int, last: int) -> list[Checkpoint]:
    """The ``count`` newest of those saved every so many steps, and at step ``last``, the oldest first.

    One that a signal asked for is not among them, so that a run that was stopped ends like one that was not.
    """
    regular = [each for each in found if each.step <= last and (each.step % every == 0 or each.step == last)]
    return sorted(regular, key=lambda checkpoint: checkpoint.step)[-count:]
