"""What one update costs: memory and time of a dry run on the longest items, and arithmetic on named hardware.

All assumptions: Parameters, gradients and both of AdamW's moments are float32, 4 bytes each. A backward pass costs two
forward passes. On named hardware, matrix products run at :data:`UTILISATION` of the peak, and the gradients of the
activated parameters are reduced over the ranks after the backward pass, each rank sending twice their bytes (the
ring's reduce-scatter and all-gather). A dry run needs no data: its items are copies of an embedder's ``longest``. Two
batch sizes give the fixed cost of a batch and the cost of an item. A model that would take too long is measured with
one layer and with two: all layers are alike, so the rest is a straight line.
"""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skillnet_cli.api import Batch, UserError
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.device import autocast
from skillnet_cli.model.encoder import Encoder
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives.contrastive import SCORES
from skillnet_cli.plugins import Registry, suggest
from skillnet_cli.recipe.schema import EmaSection, Stage

UTILISATION = 0.4
"""The share of the peak that training is assumed to reach. An assumption, not a measurement."""
USABLE = 0.92
"""The share of a GPU's memory that tensors may take; the rest is the driver's, the libraries' and gaps."""
GIB = 2**30


@dataclass(frozen=True)
class _Hardware:
    """One accelerator: memory in GiB, peak of dense bf16 products in TFLOP/s, link in GB/s.

    ``link`` is what one accelerator is assumed to send to those of other machines in a second: 200 Gbit/s (25 GB/s)
    each for the kinds that are built into servers for training, 25 Gbit/s each for the others.
    """

    name: str
    memory: int
    peak: float
    link: float

    @property
    def usable_bytes(self) -> float:
        """The bytes that tensors may take."""
        return self.memory * GIB * USABLE


# Peaks without sparsity, bf16 with float32 sums, from NVIDIA's data sheets (A10, A100, A800, L4, L40S, H20, H100 SXM,
# H200) and architecture papers (GA102 for the RTX 3090, Ada for the RTX 4090).
KNOWN = {
    each.name: each
    for each in (
        _Hardware("a10-24g", 24, 125.0, 3.125),
        _Hardware("a100-40g", 40, 312.0, 25.0),
        _Hardware("a100-80g", 80, 312.0, 25.0),
        _Hardware("a800-80g", 80, 312.0, 25.0),
        _Hardware("l4-24g", 24, 121.0, 3.125),
        _Hardware("l40s-48g", 48, 362.0, 3.125),
        _Hardware("h20-96g", 96, 148.0, 25.0),
        _Hardware("h100-80g", 80, 989.4, 25.0),
        _Hardware("h200-141g", 141, 989.4, 25.0),
        _Hardware("rtx3090-24g", 24, 71.0, 3.125),
        _Hardware("rtx4090-24g", 24, 165.2, 3.125),
    )
}


@dataclass(frozen=True)
class Accelerators:
    """Accelerators of one kind that train together."""

    hardware: _Hardware
    count: int

    @classmethod
    def parse(cls, text: str) -> Accelerators:
        """Read ``NAME`` or ``NAME:COUNT``. Raises UserError listing the known names."""
        name, colon, number = text.partition(":")
        if name not in KNOWN:
            known = ", ".join(KNOWN)
            raise UserError(f"--on: unknown hardware '{name}'{suggest(name, KNOWN, f'choose from {known}')}")
        if colon and not (number.isascii() and number.isdigit() and int(number)):
            raise UserError(f"--on {text}: write it as NAME:COUNT, for example {name}:8")
        return cls(KNOWN[name], int(number) if colon else 1)


WORK = 1e11
"""FLOPs of a dry run's batch, forward and backward, beyond which it is made smaller: one item, then fewer layers."""
LAPS, ENOUGH = 5, 0.5
"""A dry run's batch is timed at most so often, and until it has taken so many seconds; its quickest run counts."""


@dataclass(frozen=True)
class Backend:
    """What a dry run computes on: ``timed`` on this device, or, not timed, to find the memory that a GPU will need."""

    device: torch.device
    precision: str
    timed: bool


@dataclass(frozen=True)
class Cost:
    """Transient bytes and seconds of forward and backward, ``fixed`` and for each item; a step's for each parameter."""

    fixed_bytes: float
    item_bytes: float
    fixed_seconds: float = 0.0
    item_seconds: float = 0.0
    step_seconds: float = 0.0

    def bytes_of(self, items: int) -> float:
        """What so many items need at their most, beside parameters, gradients and moments."""
        return self.fixed_bytes + items * self.item_bytes


@dataclass(frozen=True)
class _Measurement:
    """One batch of a dry run.

    ``held`` are the bytes that wait for the backward pass, ``extra`` those that it needs beside them at its worst,
    ``copies`` those of weights that autocast copies, ``step`` the optimizer's seconds for each parameter.
    """

    held: float
    extra: float
    seconds: float
    copies: float
    step: float


class _PeakMemory(TorchDispatchMode):
    """Adds up the bytes of the tensors that are made inside it and still live; ``peak`` is the most there were.

    Tensors that were there before do not count, nor what a library takes for itself inside an operation. The weak
    references hang on storages, not tensors: views share one, and the last of them frees it.
    """

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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


def dry_run(
    config: SkillNetConfig,
    task: str,
    lengths: Sequence[Sequence[int]],
    flops: float,
    most: int,
    backend: Backend,
    registry: Registry,
) -> Cost | None:
    """The cost of a task's longest items; None where the objective has no dummy targets.

    Args:
        config: of the model, labels of the task included.
        task: its name.
        lengths: towers × segments: the tokens of one item.
        flops: of a forward pass of one item.
        most: items of the largest batch.
        backend: what to compute on.
        registry: the plugins to build the model from.
    """
    # n items and then 2 n, each forward and backward (three forward passes): 9 n forward passes in all
    items = int(max(1, min(most // 2, WORK // (9 * flops))))
    shallow = config.layers > 2 and 9 * flops * items > WORK
    depth = 1 if shallow else config.layers

    def read(layers: int, count: int) -> _Measurement | None:
        return _read(SkillNet(_cut(config, task, layers), registry), task, lengths, count, backend)

    one, two = read(depth, items), read(depth, 2 * items)
    if one is None or two is None:
        return None
    deeper = read(2, items) if shallow else None
    return _line(items, one, two, deeper or one, config.layers - depth)


def _line(items: int, one: _Measurement, two: _Measurement, deeper: _Measurement, more: int) -> Cost:
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
    model: SkillNet, task: str, lengths: Sequence[Sequence[int]], items: int, backend: Backend
) -> _Measurement | None:
    targets = model.objectives[task].dummy_targets(items, lengths)
    if targets is None:
        return None
    model.to(backend.device).train()
    for encoder in (module for module in model.modules() if isinstance(module, Encoder)):
        if not backend.timed:
            encoder.plain_longest = 0  # what a GPU will need is asked for, and it attends with the fused kernel alone
    towers = [
        [_copied(cast("Any", tower.embedders[skill]).longest(), items, backend.device) for skill in skills]
        for tower, skills in zip(model.towers_of(task), model.task(task).towers, strict=True)
    ]
    targets = {name: tensor.to(backend.device) for name, tensor in targets.items()}
    batch = (task, towers, targets)
    inputs = [*targets.values(), *(each for tower in towers for segment in tower for each in segment.values())]
    memory = _PeakMemory([*inputs, *_with_gradients(model)])
    with memory:
        loss = _forth(model, batch, backend)
        held = memory.now
        _back(loss, backend)
    copied = (each.weight.numel() for each in model.modules() if isinstance(each, nn.Linear))
    copies = 2.0 * sum(copied) if backend.precision == "bf16" else 0.0
    seconds, step = _timed(model, batch, backend) if backend.timed else (0.0, 0.0)
    return _Measurement(float(held), float(memory.peak - held), seconds, copies, step)


def _cut(config: SkillNetConfig, task: str, layers: int) -> SkillNetConfig:
    """The same model with so many layers, of one task and its skills."""
    cut: SkillNetConfig = copy.deepcopy(config)
    cut.layers = layers
    cut.tasks = {task: config.tasks[task]}
    cut.skills = {skill: config.skills[skill] for skill in config.task(task).skills}
    return cut


def _copied(one: Batch, items: int, device: torch.device) -> Batch:
    """A batch of equal items: packed or not, one of them behind the other along the first dimension."""
    return {name: tensor.to(device).repeat(items, *[1] * (tensor.dim() - 1)) for name, tensor in one.items()}


def _with_gradients(model: nn.Module) -> list[Tensor]:
    """All parameters, and their gradients, which are made here: an update has them from its first micro-batch on."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return [each for parameter in model.parameters() for each in (parameter, parameter.grad) if each is not None]


def _forth(model: SkillNet, batch: tuple[Any, ...], backend: Backend) -> Tensor:
    with autocast(backend.precision, backend.device):
        loss: Tensor = model(*batch)[0]
    return loss


def _back(loss: Tensor, backend: Backend) -> None:
    loss.backward()
    if backend.device.type == "cuda":
        torch.cuda.synchronize(backend.device)


def _timed(model: SkillNet, batch: tuple[Any, ...], backend: Backend) -> tuple[float, float]:
    """Seconds of forward and backward, and of the optimizer's step by parameter; both have run once before."""
    parameters = list(model.parameters())
    optimizer = AdamW(parameters, lr=0.0, fused=True)
    optimizer.step()  # makes the moments, which must not be timed
    laps: list[tuple[float, float]] = []
    while len(laps) < LAPS and sum(map(sum, laps)) < ENOUGH:
        begin = time.perf_counter()
        _back(_forth(model, batch, backend), backend)
        middle = time.perf_counter()
        optimizer.step()
        laps.append((middle - begin, time.perf_counter() - middle))
    seconds, step = (min(each) for each in zip(*laps, strict=True))
    return seconds, step / sum(parameter.numel() for parameter in parameters)


FLOAT = 4.0
MOMENTS = 2
BACKWARD = 2
"""Forward passes that a backward pass costs."""
LOGIT_COPIES = 3
"""Float32 matrices of similarities that a contrastive loss holds of each direction: logits, softmax, gradient."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters: of the model, those that train, those that a task activates, and the largest unit's.

    A unit is what ``fsdp`` gathers at once: a layer, an embedder, a head. ``beside`` are the numbers that are kept for
    each parameter that trains.
    """

    total: int
    trained: int
    activated: int
    unit: int
    beside: int = MOMENTS

    def state_bytes(self, ranks: int, strategy: str) -> float:
        """What a rank holds from update to update, and while it reduces: parameters, what is kept beside, gradients."""
        full = FLOAT * (self.total + self.beside * self.trained + self.activated)
        if strategy == "replicate" or ranks == 1:
            return full
        return full / ranks + 2 * FLOAT * self.unit  # a unit's parameters while it computes, and the next one's


@dataclass(frozen=True)
class Load:
    """One task's update.

    Attributes:
        batch: items over all ranks.
        micro_batch: items of one rank's micro-batch.
        flops: of a forward pass of the longest item.
        cost: measured by the dry run, None where it was not.
        contrastive: whether items are compared with each other.
        share: mean length of an item over the length of the longest, in tokens.
        twice: whether items are encoded once more, before (GradCache) or in the backward pass (activation recompute).
    """

    batch: int
    micro_batch: int
    flops: float
    cost: Cost | None
    contrastive: bool
    share: float = 1.0
    twice: bool = False

    @property
    def flops_an_update(self) -> float:
        """FLOPs that the update's gradient takes, over all ranks; recomputing does not count."""
        return self.batch * self.share * self.flops * (1 + BACKWARD)

    @property
    def work(self) -> float:
        """How much is computed beside what the gradient takes."""
        return (2 + BACKWARD) / (1 + BACKWARD) if self.twice else 1.0

    def transient_bytes(self, items: int, ranks: int) -> float | None:
        """What a rank needs beside its state for a micro-batch of so many items; None where it was not measured."""
        if self.cost is None:
            return None
        # A rank's pairs are compared with those of all ranks, in both directions; no more scores at once than SCORES.
        scores = min(self.batch / ranks * self.batch, SCORES) if self.contrastive else 0.0
        return self.cost.bytes_of(items) + 2 * LOGIT_COPIES * FLOAT * scores

    def seconds_on(self, accelerators: Accelerators, sizes: Sizes) -> float:
        """Seconds of an update on named hardware, by this module's assumptions."""
        count, hardware = accelerators.count, accelerators.hardware
        computing = self.work * self.flops_an_update / (count * hardware.peak * 1e12 * UTILISATION)
        sent = 2 * FLOAT * sizes.activated * (count - 1) / count
        return computing + sent / (hardware.link * 1e9)

    def seconds_here(self, sizes: Sizes, machines: int) -> float | None:
        """Seconds of an update on this machine, or on so many like it, as the dry run measured it."""
        if self.cost is None:
            return None
        micro_batches = -(-self.batch // self.micro_batch)
        encoding = self.batch * self.share * self.cost.item_seconds + micro_batches * self.cost.fixed_seconds
        return self.work * encoding / machines + sizes.activated * self.cost.step_seconds

    def largest_micro_batch(self, state: float, memory: float, ranks: int) -> int | None:
        """The largest micro-batch that fits: a power of two of items, or the rank's whole share; 0 if none does.

        Args:
            state: bytes that a rank holds from update to update.
            memory: bytes that a rank has.
            ranks: how many share the batch.
        """
        share = self.batch // ranks
        if self.cost is None:
            return None
        sizes = [share, *(2**power for power in range(share.bit_length() - 1, -1, -1) if 2**power < share)]
        return next((n for n in sizes if state + (self.transient_bytes(n, ranks) or 0.0) <= memory), 0)


def kept_beside(stage: Stage) -> int:
    """Numbers kept for each parameter that trains: AdamW's moments, and the moving average where one is wanted."""
    return MOMENTS + isinstance(stage.average, EmaSection)


def checkpoint_bytes(total: int, trained: int, beside: int = MOMENTS) -> float:
    """A checkpoint of the whole model: its parameters, and what is kept beside each that trains."""
    return FLOAT * (total + beside * trained)
