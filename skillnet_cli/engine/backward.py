"""The gradients of one update: micro-batches one after another, or a batch that is compared whole in two passes."""

from __future__ import annotations

import itertools
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
    whole = _outlined(computation, chunks)
    sync_gradients(computation.model, True)  # the parameters of the comparison itself see no other backward pass
    loss, count = computation.compare(whole, chunks)
    loss.backward()
    for number, (chunk, gradients) in enumerate(zip(chunks, _gradients(whole, chunks), strict=True)):
        sync_gradients(computation.model, number == len(chunks) - 1)
        _carry_on(computation.outline(chunk, number), gradients)
    return loss.detach().double(), count


def duplicates(computation: Computation, batches: Sequence[TaskBatch]) -> Tensor | None:
    """How many of this rank's items are the same as another of the global batch; None where nobody compares them."""
    comparing = computation.comparing
    return None if comparing is None else comparing.duplicates(computation.targets(batches))


def _outlined(computation: Computation, chunks: Sequence[TaskBatch]) -> Outline:
    """The outline of the whole batch, its tensors leaves that are given gradients.

    Each chunk's rows go to their place at once. Kept until the last, they would lie scattered between the memory of
    activations, which the next chunk's then no longer fit into.
    """
    vectors: list[Tensor] = []
    usages: list[Tensor] = []
    with torch.no_grad():
        for number, rows in enumerate(_rows(chunks)):
            own, used = computation.outline(chunks[number], number)
            if number == 0:
                items = sum(len(chunk.ids) for chunk in chunks)
                vectors = [each.new_empty(items, *each.shape[1:]) for each in own]
                usages = [torch.zeros_like(each) for each in used]
            for whole, part in zip(vectors, own, strict=True):
                whole[rows] = part
            for total, part in zip(usages, used, strict=True):
                total += part
    return tuple(each.requires_grad_() for each in vectors), tuple(each.requires_grad_() for each in usages)


def _gradients(whole: Outline, chunks: Sequence[TaskBatch]) -> Iterator[list[Tensor | None]]:
    """For every chunk the gradients of its vectors and usages: its rows of the former, all of the latter."""
    vectors, usages = whole
    for rows in _rows(chunks):
        yield [None if each.grad is None else each.grad[rows] for each in vectors] + [each.grad for each in usages]


def _carry_on(outline: Outline, gradients: Sequence[Tensor | None]) -> None:
    """Go on backward from a chunk's outline, of whose gradients some may be missing."""
    vectors, usages = outline
    trained = [pair for pair in zip((*vectors, *usages), gradients, strict=True) if pair[0].requires_grad]
    if trained:
        torch.autograd.backward([tensor for tensor, _ in trained], [gradient for _, gradient in trained])


def _rows(chunks: Sequence[TaskBatch]) -> Iterator[slice]:
    """Which rows of the whole batch each chunk has."""
    ends = list(itertools.accumulate(len(chunk.ids) for chunk in chunks))
    return map(slice, [0, *ends[:-1]], ends)
