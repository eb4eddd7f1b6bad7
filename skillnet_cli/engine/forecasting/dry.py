"""A dry batch: what one update costs in memory and time, measured on items that are as long as the model takes.

The items are made up (an embedder's ``longest``, copied), so no data is needed. Two sizes of a batch tell what it
costs whatever its size, and what an item more costs. A model that is too much work for a look ahead is measured with
one layer and with two: all layers are alike, so the rest is a straight line.
"""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skillnet_cli.api import Batch
from skillnet_cli.model.attention import fused_at_every_length
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.precision import autocast
from skillnet_cli.model.skillnet import SkillNet

WORK = 1e11
"""FLOPs of a dry batch, forward and backward, beyond which it is made smaller: one item, then fewer layers."""
LAPS, ENOUGH = 5, 0.5
"""A dry batch is timed so often, or until it has taken so many seconds; its quickest run counts."""


@dataclass(frozen=True)
class Where:
    """In what a dry batch is computed: ``timed``, or as a GPU would, whose memory alone is asked for."""

    device: torch.device
    precision: str
    timed: bool


@dataclass(frozen=True)
class Cost:
    """Transient bytes and seconds of forward and backward: ``fixed``, and for every item; of a step, by parameter."""

    fixed_bytes: float
    item_bytes: float
    fixed_seconds: float = 0.0
    item_seconds: float = 0.0
    step_seconds: float = 0.0

    def bytes_of(self, items: int) -> float:
        """What so many items need at their most, beside parameters, gradients and moments."""
        return self.fixed_bytes + items * self.item_bytes


@dataclass(frozen=True)
class _Reading:
    """One dry batch.

    ``held`` are the bytes that wait for the backward pass, ``extra`` those that it needs beside them at its worst,
    ``copies`` those of weights that autocast copies, ``step`` the seconds of an optimizer's step by parameter.
    """

    held: float
    extra: float
    seconds: float
    copies: float
    step: float


class PeakMemory(TorchDispatchMode):
    """Adds up the bytes of the tensors that are made inside it and still live; ``peak`` is the most there were.

    Tensors that were there before do not count, nor what a library takes for itself inside an operation.
    """

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def measure(
    config: SkillNetConfig, task: str, lengths: Sequence[Sequence[int]], flops: float, most: int, where: Where
) -> Cost | None:
    """The cost of a task's longest items, in batches of at most ``most``; None where they cannot be made up.

    Args:
        config: of the model, labels of the task included.
        lengths: towers × segments: the tokens of one item.
        flops: of a forward pass of one item.
    """
    items = int(max(1, min(most // 2, WORK // (9 * flops))))
    shallow = config.layers > 2 and 9 * flops * items > WORK
    depth = 1 if shallow else config.layers
    one, two = (_read(config, depth, task, lengths, count, where) for count in (items, 2 * items))
    if one is None or two is None:
        return None
    deeper = _read(config, 2, task, lengths, items, where) if shallow else None
    return _line(items, one, two, deeper or one, config.layers - depth)


def _line(items: int, one: _Reading, two: _Reading, deeper: _Reading, more: int) -> Cost:
    """What batches of n and of 2 n items, and n items with a layer more, say of any batch with ``more`` layers.

    What is held grows with items and layers; what comes on top with items alone, at the end of the network or at its
    beginning, whichever needs more.
    """
    held, extra = (two.held - one.held) / items, max(0.0, two.extra - one.extra) / items
    layer_copies = deeper.copies - one.copies
    layer_bytes = max(0.0, deeper.held - one.held - layer_copies) / items
    slower = two.seconds - one.seconds
    item_seconds = (slower if slower > 0 else two.seconds / 2) / items  # a busy machine may be quicker at more
    layer_seconds = max(0.0, deeper.seconds - one.seconds) / items
    return Cost(
        max(0.0, one.held - items * held) + max(0.0, one.extra - items * extra) + more * layer_copies,
        held + extra + more * layer_bytes,
        max(0.0, one.seconds - items * item_seconds),
        item_seconds + more * layer_seconds,
        one.step,
    )


def _read(
    config: SkillNetConfig, layers: int, task: str, lengths: Sequence[Sequence[int]], items: int, where: Where
) -> _Reading | None:
    model: Any = SkillNet(_cut(config, task, layers))
    targets = model.objectives[task].stand_ins(items, lengths)
    if targets is None:
        return None
    model.to(where.device).train()
    towers = [
        [_copied(tower.embedders[skill].longest(), items, where.device) for skill in skills]
        for tower, skills in zip(model.towers_of(task), model.task(task).towers, strict=True)
    ]
    targets = {name: tensor.to(where.device) for name, tensor in targets.items()}
    batch = (task, towers, targets)
    inputs = [*targets.values(), *(each for tower in towers for segment in tower for each in segment.values())]
    memory = PeakMemory([*inputs, *_with_gradients(model)])
    with memory, nullcontext() if where.timed else fused_at_every_length():
        loss = _forth(model, batch, where)
        held = memory.now
        _back(loss, where)
    copied = (each.weight.numel() for each in model.modules() if isinstance(each, nn.Linear))
    copies = 2.0 * sum(copied) if where.precision == "bf16" else 0.0
    seconds, step = _timed(model, batch, where) if where.timed else (0.0, 0.0)
    return _Reading(float(held), float(memory.peak - held), seconds, copies, step)


def _cut(config: SkillNetConfig, task: str, layers: int) -> SkillNetConfig:
    """The same model with so many layers, of one task and its skills."""
    cut: SkillNetConfig = copy.deepcopy(config)
    cut.layers = layers
    cut.tasks = {task: (config.tasks or {})[task]}
    cut.skills = {skill: (config.skills or {})[skill] for skill in config.task(task).skills}
    return cut


def _copied(one: Batch, items: int, device: torch.device) -> Batch:
    """A batch of equal items: packed or not, one of them behind the other along the first dimension."""
    return {name: tensor.to(device).repeat(items, *[1] * (tensor.dim() - 1)) for name, tensor in one.items()}


def _with_gradients(model: nn.Module) -> list[Tensor]:
    """All parameters, and their gradients, which are made here: an update has them from its first micro-batch on."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return [each for parameter in model.parameters() for each in (parameter, parameter.grad) if each is not None]


def _forth(model: Any, batch: tuple[Any, ...], where: Where) -> Tensor:
    with autocast(where.precision, where.device):
        loss: Tensor = model(*batch)[0]
    return loss


def _back(loss: Tensor, where: Where) -> None:
    loss.backward()
    if where.device.type == "cuda":
        torch.cuda.synchronize(where.device)


def _timed(model: Any, batch: tuple[Any, ...], where: Where) -> tuple[float, float]:
    """Seconds of forward and backward, and of the optimizer's step by parameter; both have run once before."""
    parameters = list(model.parameters())
    optimizer = AdamW(parameters, lr=0.0, fused=True)
    optimizer.step()
    laps: list[tuple[float, float]] = []
    while len(laps) < LAPS and sum(map(sum, laps)) < ENOUGH:
        begin = time.perf_counter()
        _back(_forth(model, batch, where), where)
        middle = time.perf_counter()
        optimizer.step()
        laps.append((middle - begin, time.perf_counter() - middle))
    seconds, step = (min(each) for each in zip(*laps, strict=True))
    return seconds, step / sum(parameter.numel() for parameter in parameters)
