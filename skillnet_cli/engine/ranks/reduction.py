"""Gradients that are averaged over ranks while the backward pass goes on, on CPUs as streams have it on GPUs."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, distributed, nn
from torch.autograd import Variable
from torch.distributed import ProcessGroup, ReduceOp, Work
from torch.distributed.fsdp import FSDPModule


def reduce_in_the_background(model: nn.Module, group: ProcessGroup) -> None:
    """Have every unit of :func:`fully_shard`, of which each rank holds all, average its gradients over ``group``.

    A mesh of copies does so too. On a CPU it has the backward pass wait for every unit's gradients one after another.
    """
    underway: list[Work] = []
    claimed: set[nn.Parameter] = set()
    for unit in reversed([module for module in model.modules() if isinstance(module, FSDPModule)]):  # inner ones first
        own = [parameter for parameter in unit.parameters() if parameter not in claimed]
        claimed.update(own)
        unit.set_all_reduce_hook(Reduction(own, group, underway))


class Reduction:
    """Replaces the gradients of a unit by their average, by the end of the backward pass at the latest.

    Where some parameter of the unit has a gradient already, it does so at once: the new one is added to it next.

    Args:
        parameters: the unit's own.
        group: the ranks.
        underway: what has begun and not ended, of all units.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], group: ProcessGroup, underway: list[Work]) -> None:
        self._parameters = list(parameters)
        self._group = group
        self._underway = underway

    def __call__(self, gradients: Tensor) -> None:
        """Begin with the gradients of one unit."""
        if not self._underway:
            Variable._execution_engine.queue_callback(self._finish)
        work = distributed.all_reduce(gradients, ReduceOp.AVG, self._group, async_op=True)
        self._underway.append(work)
        if any(parameter.grad is not None for parameter in self._parameters):
            self._finish()

    def _finish(self) -> None:
        while self._underway:
            self._underway.pop(0).wait()
