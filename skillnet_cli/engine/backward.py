"""The gradients of one update: micro-batches one after another, or a batch that is compared whole in two passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skillnet_cli.api import Batch
from skillnet_cli.data.pipeline import TaskBatch
from skillnet_cli.engine.ranks.distribution import sync_gradients
from skillnet_cli.engine.seeding import seed_torch
from skillnet_cli.inference.encoder import to_device
from skillnet_cli.model.precision import autocast
from skillnet_cli.model.skillnet import Outline, SkillNet
from skillnet_cli.objectives import ComparingObjective
from skillnet_cli.objectives.base import Loss


@dataclass(frozen=True)
class Computation:
    """How one update of a task is computed: with which model, on which device, in which precision.

    ``position`` is (seed, step, rank), from which all random numbers come. With ``recompute`` the layers' activations
    are computed anew in the backward pass.
    """

    model: SkillNet
    task: str
    device: torch.device
    precision: str
    position: tuple[int, ...]
    recompute: bool = False

    @property
    def comparing(self) -> ComparingObjective | None:
        """The task's objective if it compares all items of a batch, else None."""
        objective = self.model.objectives[self.task]
        return objective if isinstance(objective, ComparingObjective) else None

    def loss(self, batch: TaskBatch) -> Loss:
        """The loss of a micro-batch."""
        with autocast(self.precision, self.device):
            loss: Loss = self.model(self.task, self._towers(batch), self._targets(batch), self.recompute)
        return loss

    def outline(self, batch: TaskBatch, chunk: int) -> Outline:
        """What the loss sees of a chunk; the same to the bit each time, dropout included."""
        seed_torch(*self.position, chunk)
        with autocast(self.precision, self.device):
            return self.model.outline(self.task, self._towers(batch), self._targets(batch), self.recompute)

    def compare(self, outline: Outline, chunks: Sequence[TaskBatch]) -> Loss:
        """The loss of a whole batch, given the outline of all of it."""
        with autocast(self.precision, self.device):
            return self.model.compare(self.task, outline, self.targets(chunks))

    def targets(self, chunks: Sequence[TaskBatch]) -> Batch:
        """The targets of chunks, which have one row an item, as those of one batch."""
        keys = chunks[0].targets
        return {key: torch.cat([chunk.targets[key] for chunk in chunks]).to(self.device) for key in keys}

    def _towers(self, batch: TaskBatch) -> list[list[Batch]]:
        return [[to_device(segment, self.device) for segment in tower] for tower in batch.towers]

    def _targets(self, batch: TaskBatch) -> Batch:
        return to_device(batch.targets, self.device)


def backward(computation: Computation, batches: Sequence[TaskBatch]) -> tuple[Tensor, Tensor]:
    """Add up the gradients of the loss of this rank's micro-batches. Returns the loss as (sum, count)."""
    if computation.comparing is not None and len(batches) > 1:
        return accumulate_in_two_passes(computation, batches)
    return accumulate(computation, batches)


def accumulate(computation: Computation, batches: Sequence[TaskBatch]) -> tuple[Tensor, Tensor]:
    """Add up the gradients of the micro-batches' losses, each with its own backward pass."""
    seed_torch(*computation.position)
    losses, counts = [], []
    for number, batch in enumerate(batches, 1):
        sync_gradients(computation.model, number == len(batches))
        loss, count = computation.loss(batch)
        loss.backward()
        losses.append(loss.detach().double())
        counts.append(count)
    return torch.stack(losses).sum(), torch.stack(counts).sum()


def accumulate_in_two_passes(computation: Computation, chunks: Sequence[TaskBatch]) -> tuple[Tensor, Tensor]:
    """The same for a loss that compares all items of the batch: GradCache (Gao et al. 2021).

    A first pass encodes the chunks without keeping activations. From all their outlines come the loss and its gradient
    with respect to each; a second pass encodes every chunk again and carries that gradient on to the parameters.
    Activations of one chunk at a time are in memory; the gradient is that of the whole batch at once.
    """
    with torch.no_grad():
        outlines = [computation.outline(chunk, number) for number, chunk in enumerate(chunks)]
    whole = _joined(outlines)
    sync_gradients(computation.model, True)  # the parameters of the comparison itself see no other backward pass
    loss, count = computation.compare(whole, chunks)
    loss.backward()
    for number, (chunk, gradients) in enumerate(zip(chunks, _gradients(whole, outlines), strict=True)):
        sync_gradients(computation.model, number == len(chunks) - 1)
        vectors, usages = computation.outline(chunk, number)
        trained = [pair for pair in zip((*vectors, *usages), gradients, strict=True) if pair[0].requires_grad]
        if trained:
            torch.autograd.backward([tensor for tensor, _ in trained], [gradient for _, gradient in trained])
    return loss.detach().double(), count


def duplicates(computation: Computation, batches: Sequence[TaskBatch]) -> Tensor | None:
    """How many of this rank's items are the same as another of the global batch; None where nobody compares them."""
    comparing = computation.comparing
    return None if comparing is None else comparing.duplicates(computation.targets(batches))


def _joined(outlines: Sequence[Outline]) -> Outline:
    """The outline of the whole batch, its tensors leaves that are given gradients."""
    vectors = [torch.cat(parts) for parts in zip(*(vectors for vectors, _ in outlines), strict=True)]
    usages = [torch.stack(parts).sum(0) for parts in zip(*(usages for _, usages in outlines), strict=True)]
    for tensor in (*vectors, *usages):
        tensor.requires_grad_()
    return tuple(vectors), tuple(usages)


def _gradients(whole: Outline, outlines: Sequence[Outline]) -> Iterator[list[Tensor | None]]:
    """For every chunk the gradients of its vectors and usages: its rows of the former, all of the latter."""
    vectors, usages = whole
    sizes = [len(own[0]) for own, _ in outlines]
    rows = [[None] * len(sizes) if each.grad is None else each.grad.split(sizes) for each in vectors]
    for number in range(len(outlines)):
        yield [*(each[number] for each in rows), *(each.grad for each in usages)]
