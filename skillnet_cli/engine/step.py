"""What one update is: seeds, gradients, the learning rate, the optimizer's step, averages."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import get_total_norm
from torch.optim import AdamW

from skillnet_cli.api import Batch, UserError
from skillnet_cli.data.pipeline import TaskBatch, to_device
from skillnet_cli.engine.checkpoint.format import MODEL, Checkpoint, Chunk, local_shard
from skillnet_cli.engine.distributed.mesh import Ranks, full_tensor, sync_gradients
from skillnet_cli.engine.signals import SIGNALS
from skillnet_cli.model.device import autocast
from skillnet_cli.model.skillnet import Embeddings, SkillNet
from skillnet_cli.objectives import ComparingObjective
from skillnet_cli.objectives.base import Limited, Loss
from skillnet_cli.recipe.schema import OptimizerSection, Stage


def seed_torch(*position: int) -> None:
    """Seed torch's generators from numbers such as (seed, step, rank); different positions are independent."""
    torch.manual_seed(int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0]) >> 1)


def learning_rate(update: int, *, peak: float, steps: int, warmup: int, schedule: str) -> float:
    """The rate of the update after ``update`` applied ones, of ``steps`` in all.

    It rises linearly to ``peak`` over ``warmup`` updates and then falls linearly towards zero (``"linear"``, paper
    appendix) or stays (``"constant"``). No update has rate zero.
    """
    if update < warmup:
        return peak * (update + 1) / warmup
    if schedule == "constant":
        return peak
    return peak * (steps - update) / (steps - warmup)


def build_optimizer(model: nn.Module, settings: OptimizerSection) -> AdamW:
    """AdamW over all parameters that are not frozen; only weights of linear layers and convolutions are decayed.

    A parameter that gets no gradient in an update is passed over: it, its moments and its own step count stay as
    they are to the bit.
    """
    decayed = {id(parameter) for parameter in decayed_parameters(model)}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if id(p) in decayed], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=0.0, betas=settings.betas, eps=settings.eps, fused=True)


def decayed_parameters(model: nn.Module) -> Iterator[Tensor]:
    """The weights that multiply their input: not biases, norms, tables of embeddings or positions, temperatures."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, _ConvNd)):
            yield module.weight


def set_learning_rate(optimizer: AdamW, rate: float) -> None:
    """Use ``rate`` for all parameters from the next update on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


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
        averages = [local_shard(self.tensors[name]) for name in moved]
        parameters = [local_shard(self._parameters[name]) for name in moved]
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
            own, average = local_shard(parameter), local_shard(self.tensors[name])
            kept = own.clone()
            own.copy_(average)
            average.copy_(kept)


@torch.no_grad()
def take_mean(model: nn.Module, checkpoints: Sequence[Checkpoint]) -> None:
    """Give the model, in whatever layout, the mean of the parameters in some checkpoints, added up in float64.

    Raises:
        FailedJob: one is damaged.
    """
    saved = [checkpoint.sharded(MODEL) for checkpoint in checkpoints]
    for name, parameter in model.named_parameters():
        box = Chunk.of(parameter)
        total = sum((each.read(name, box).double() for each in saved), torch.zeros(box.size, dtype=torch.float64))
        local_shard(parameter).copy_(total / len(saved))


def averaged_checkpoints(found: Sequence[Checkpoint], every: int, count: int, last: int) -> list[Checkpoint]:
    """The ``count`` newest of those saved every so many steps, and at step ``last``, the oldest first.

    One that a signal asked for is not among them, so that a run that was stopped ends like one that was not.
    """
    regular = [each for each in found if each.step <= last and (each.step % every == 0 or each.step == last)]
    return sorted(regular, key=lambda checkpoint: checkpoint.step)[-count:]


_REFUSED = re.compile(r"^(.+?) does not have a deterministic implementation")


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Use only operations that give the same bits every time (``train.deterministic``); a CPU does so in any case.

    Raises:
        UserError: an operation has no such form on this device.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        refused = _REFUSED.match(str(error))
        if not refused:
            raise
        raise UserError(
            f"train.deterministic: {refused[1]} cannot be computed to the same bits on this device; leave out the "
            "task that needs it, or go on with --set train.deterministic=false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]


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

    def encode(self, batch: TaskBatch, chunk: int) -> Embeddings:
        """What the loss sees of a chunk; the same to the bit each time, dropout included."""
        seed_torch(*self.position, chunk)
        with autocast(self.precision, self.device):
            return self.model.encode_batch(self.task, self._towers(batch), self._targets(batch), self.recompute)

    def contrastive_loss(self, embeddings: Embeddings, chunks: Sequence[TaskBatch]) -> Loss:
        """The loss of a whole batch, given the embeddings of all of it."""
        with autocast(self.precision, self.device):
            return self.model.contrastive_loss(self.task, embeddings, self.targets(chunks))

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
        return _accumulate_in_two_passes(computation, batches)
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


def _accumulate_in_two_passes(computation: Computation, chunks: Sequence[TaskBatch]) -> tuple[Tensor, Tensor]:
    """The same for a loss that compares all items of the batch: GradCache (Gao et al. 2021).

    A first pass encodes the chunks without keeping activations. From all their embeddings come the loss and its
    gradient with respect to each; a second pass encodes every chunk again and carries that gradient on to the
    parameters. Activations of one chunk at a time are in memory; the gradient is that of the whole batch at once.
    """
    whole = _embeddings_of(computation, chunks)
    sync_gradients(computation.model, True)  # the parameters of the comparison itself see no other backward pass
    loss, count = computation.contrastive_loss(whole, chunks)
    loss.backward()
    for number, (chunk, gradients) in enumerate(zip(chunks, _gradients(whole, chunks), strict=True)):
        sync_gradients(computation.model, number == len(chunks) - 1)
        _carry_on(computation.encode(chunk, number), gradients)
    return loss.detach().double(), count


def _duplicates(computation: Computation, batches: Sequence[TaskBatch]) -> Tensor | None:
    """How many of this rank's items are the same as another of the global batch; None where nobody compares them."""
    comparing = computation.comparing
    return None if comparing is None else comparing.duplicates(computation.targets(batches))


def _embeddings_of(computation: Computation, chunks: Sequence[TaskBatch]) -> Embeddings:
    """The embeddings of the whole batch, their tensors leaves that are given gradients.

    Each chunk's rows go to their place at once. Kept until the last, they would lie scattered between the memory of
    activations, which the next chunk's then no longer fit into.
    """
    vectors: list[Tensor] = []
    usages: list[Tensor] = []
    with torch.no_grad():
        for number, rows in enumerate(_rows(chunks)):
            own, used = computation.encode(chunks[number], number)
            if number == 0:
                items = sum(len(chunk.ids) for chunk in chunks)
                vectors = [each.new_empty(items, *each.shape[1:]) for each in own]
                usages = [torch.zeros_like(each) for each in used]
            for whole, part in zip(vectors, own, strict=True):
                whole[rows] = part
            for total, part in zip(usages, used, strict=True):
                total += part
    return Embeddings(tuple(each.requires_grad_() for each in vectors), tuple(each.requires_grad_() for each in usages))


def _gradients(whole: Embeddings, chunks: Sequence[TaskBatch]) -> Iterator[list[Tensor | None]]:
    """For every chunk the gradients of its vectors and usages: its rows of the former, all of the latter."""
    vectors, usages = whole
    for rows in _rows(chunks):
        yield [None if each.grad is None else each.grad[rows] for each in vectors] + [each.grad for each in usages]


def _carry_on(embeddings: Embeddings, gradients: Sequence[Tensor | None]) -> None:
    """Go on backward from a chunk's embeddings, of whose gradients some may be missing."""
    vectors, usages = embeddings
    trained = [pair for pair in zip((*vectors, *usages), gradients, strict=True) if pair[0].requires_grad]
    if trained:
        torch.autograd.backward([tensor for tensor, _ in trained], [gradient for _, gradient in trained])


def _rows(chunks: Sequence[TaskBatch]) -> Iterator[slice]:
    """Which rows of the whole batch each chunk has."""
    ends = list(itertools.accumulate(len(chunk.ids) for chunk in chunks))
    return map(slice, [0, *ends[:-1]], ends)


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
        alike = _duplicates(computation, batches)
        replaced = float(sum(len(batch.damaged) for batch in batches))
        signals = (float(signal == number) for number in SIGNALS)
        own = (loss, count, replaced, 0.0 if alike is None else alike, *signals)
        total, counted, damaged, same, *votes = self._over_ranks(*own)
        mean = total / counted if counted else math.nan
        norm = self._apply(task, self.ranks.world / counted, rate) if math.isfinite(mean) else math.nan
        applied = math.isfinite(norm)
        self._advance(applied)
        found = None if alike is None else int(same)
        return Outcome(task, mean, int(counted), rate, norm, applied, _first_signal(votes), int(damaged), found)

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
        norm = float(full_tensor(get_total_norm(gradients))) * scale
        if math.isfinite(norm):
            torch._foreach_mul_(gradients, scale * min(1.0, self.stage.clip / (norm + 1e-12)))
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
            _limit_heads(self.model, task)
        return norm

    def _advance(self, applied: bool) -> None:
        if applied and self.average is not None:
            self.average.update()
        self.progress.step += 1
        self.progress.skipped += not applied
        self.progress.skipped_in_row = 0 if applied else self.progress.skipped_in_row + 1


def _limit_heads(model: SkillNet, task: str) -> None:
    """Let those of a task's heads that have limits keep to them."""
    heads = model.heads_of(task)
    for name in model.objectives[task].heads(model.config.hidden):
        if isinstance(head := heads[name], Limited):
            head.limit()


def _first_signal(votes: Sequence[float]) -> int:
    """The number of a signal that some rank has voted for, 0 if none has."""
    return next((int(number) for number, count in zip(SIGNALS, votes, strict=True) if count), 0)
