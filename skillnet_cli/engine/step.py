"""What one update is: micro-batches of one task in, an updated model out.

In reading order: the updater with its gradients, in one pass or two; seeds and the learning rate; the optimizer;
averages of parameters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import get_total_norm
from torch.optim import AdamW

from skillnet_cli.api import Batch
from skillnet_cli.data.pipeline import TaskBatch, to_device
from skillnet_cli.engine.checkpoint.format import AVERAGE, MODEL, OPTIMIZER, Checkpoint, Chunk, local_shard
from skillnet_cli.engine.checkpoint.state import optimizer_tensors, restore_optimizer, restore_tensors, saved_state
from skillnet_cli.engine.distributed.mesh import Ranks, full_tensor, sync_gradients
from skillnet_cli.engine.signals import SIGNALS
from skillnet_cli.model.device import autocast
from skillnet_cli.model.skillnet import Embeddings, SkillNet
from skillnet_cli.objectives import ComparingObjective
from skillnet_cli.objectives.base import Limited
from skillnet_cli.pace import advanced
from skillnet_cli.recipe.schema import OptimizerSection, Stage


@dataclass
class Progress:
    """How far a stage has come: steps done, how many of them were skipped, and how many of those just now."""

    step: int = 0
    skipped: int = 0
    skipped_in_row: int = 0

    @property
    def applied(self) -> int:
        """Updates that the parameters have seen; the learning rate goes by them."""
        return self.step - self.skipped

    def advance(self, applied: bool) -> None:
        """Count one more step."""
        self.step += 1
        self.skipped += not applied
        self.skipped_in_row = 0 if applied else self.skipped_in_row + 1


@dataclass(frozen=True)
class UpdateResult:
    """What one update came to, over all ranks.

    ``stop`` is the number of a signal that some rank has received, or 0. ``duplicates`` counts the items that are the
    same as another one of the batch, in a task that compares them, and is None in others.
    """

    task: str
    loss: float
    count: int
    lr: float
    grad_norm: float
    applied: bool
    stop: int
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

    def update(self, batches: Sequence[TaskBatch], signal: int = 0) -> UpdateResult:
        """Train on this rank's micro-batches of the next step. All ranks call this together, on the same task.

        An update whose loss or gradient is not finite is skipped on all ranks: parameters, moments and the position in
        the learning rate's schedule stay as they are.

        Args:
            batches: at least one; as many on every rank.
            signal: the number of the signal that asked this process to stop, or 0.
        """
        task, stage = batches[0].task, self.stage
        rate = learning_rate(
            self.progress.applied, peak=stage.lr, steps=stage.steps, warmup=stage.warmup, schedule=stage.schedule
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss, count = self.accumulate(batches)
        duplicates = self._duplicates(batches)
        # All figures in one reduction: each collective costs the ranks a round trip, however little it carries.
        votes = [float(signal == number) for number in SIGNALS]
        known = 0.0 if duplicates is None else duplicates
        total, counted, same, *voted = self._sum_over_ranks(loss, count, known, *votes)
        mean = total / counted if counted else math.nan
        # Every rank's gradients are averaged over ranks, and the loss is to be divided by the global count.
        norm = self._apply(task, self.ranks.world / counted, rate) if math.isfinite(mean) else math.nan
        applied = math.isfinite(norm)
        if applied and self.average is not None:
            self.average.update()
        self.progress.advance(applied)
        stop = next((int(number) for number, ranks in zip(SIGNALS, voted, strict=True) if ranks), 0)
        found = None if duplicates is None else int(same)
        return UpdateResult(task, mean, int(counted), rate, norm, applied, stop, found)

    def accumulate(self, batches: Sequence[TaskBatch]) -> tuple[Tensor, Tensor]:
        """Add up the gradients of the loss of this rank's micro-batches. Returns the loss as (sum, count)."""
        if self._comparing(batches[0].task) and len(batches) > 1:
            return self._accumulate_in_two_passes(batches)
        seed_torch(*self._position)
        losses, counts = [], []
        for number, batch in enumerate(batches, 1):
            sync_gradients(self.model, number == len(batches))
            towers, targets = self._on_device(batch)
            with autocast(self.precision, self.ranks.device):
                loss, count = self.model(batch.task, towers, targets, self._recompute(batch.task))
            loss.backward()
            advanced()
            losses.append(loss.detach().double())
            counts.append(count)
        return torch.stack(losses).sum(), torch.stack(counts).sum()

    def _accumulate_in_two_passes(self, chunks: Sequence[TaskBatch]) -> tuple[Tensor, Tensor]:
        """The same for a loss that compares all items of the batch: GradCache (Gao et al. 2021).

        A first pass encodes the chunks without keeping activations. From the vectors of all come the loss and its
        gradient with respect to each; a second pass encodes every chunk again and carries that gradient on to the
        parameters. Activations of one chunk at a time are in memory; the gradient is that of the whole batch at once.
        """
        whole = self._encode_without_graph(chunks)
        sync_gradients(self.model, True)  # the parameters of the comparison itself see no other backward pass
        with autocast(self.precision, self.ranks.device):
            loss, count = self.model.contrastive_loss(chunks[0].task, whole, self._targets(chunks))
        loss.backward()
        for number, rows in enumerate(_rows(chunks)):
            sync_gradients(self.model, number == len(chunks) - 1)
            own, used = self._encode(chunks[number], number)
            gradients = [None if each.grad is None else each.grad[rows] for each in whole.vectors]
            gradients += [each.grad for each in whole.usages]  # a mixture's usage is added up over chunks
            pairs = zip((*own, *used), gradients, strict=True)
            trained = [(tensor, gradient) for tensor, gradient in pairs if tensor.requires_grad]  # frozen towers do not
            if trained:
                torch.autograd.backward([tensor for tensor, _ in trained], [gradient for _, gradient in trained])
        return loss.detach().double(), count

    def _encode_without_graph(self, chunks: Sequence[TaskBatch]) -> Embeddings:
        """What the loss sees of the whole batch, as leaves that are given gradients.

        Each chunk's rows go to their place at once. Kept until the last, they would lie scattered between the memory of
        activations, which the next chunk's then no longer fit into.
        """
        vectors: list[Tensor] = []
        usages: list[Tensor] = []
        with torch.no_grad():
            for number, rows in enumerate(_rows(chunks)):
                own, used = self._encode(chunks[number], number)
                if number == 0:
                    items = sum(len(chunk.ids) for chunk in chunks)
                    vectors = [each.new_empty(items, *each.shape[1:]) for each in own]
                    usages = [torch.zeros_like(each) for each in used]
                for vector, part in zip(vectors, own, strict=True):
                    vector[rows] = part
                for total, part in zip(usages, used, strict=True):
                    total += part
        return Embeddings(
            tuple(each.requires_grad_() for each in vectors), tuple(each.requires_grad_() for each in usages)
        )

    def _encode(self, chunk: TaskBatch, number: int) -> Embeddings:
        """What the loss sees of a chunk. A seed of its own makes both passes the same to the bit, dropout included."""
        seed_torch(*self._position, number)
        towers, targets = self._on_device(chunk)
        with autocast(self.precision, self.ranks.device):
            encoded = self.model.encode_batch(chunk.task, towers, targets, self._recompute(chunk.task))
        advanced()
        return encoded

    def _apply(self, task: str, scale: float, rate: float) -> float:
        """Step with the gradients times ``scale``, clipped. Returns their norm; no step is made if it is not finite."""
        parameters = (parameter for group in self.optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = float(full_tensor(get_total_norm(gradients))) * scale
        if math.isfinite(norm):
            torch._foreach_mul_(gradients, scale * min(1.0, self.stage.clip / (norm + 1e-12)))  # a norm of 0 stays 0
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self._limit_heads(task)
        return norm

    def _limit_heads(self, task: str) -> None:
        """Let those of a task's heads that have limits, such as the temperature, keep to them."""
        heads = self.model.heads_of(task)
        for name in self.model.objectives[task].heads(self.model.config.hidden):
            if isinstance(head := heads[name], Limited):
                head.limit()

    def _duplicates(self, batches: Sequence[TaskBatch]) -> Tensor | None:
        """How many of this rank's items are the same as another of the global batch; None where nobody asks.

        All ranks must call this together.
        """
        objective = self._comparing(batches[0].task)
        if objective is None or not self.stage.mask_duplicates:
            return None
        return objective.duplicates(self._targets(batches))

    def _sum_over_ranks(self, *figures: Tensor | float) -> list[float]:
        own = [torch.as_tensor(figure, dtype=torch.float64, device=self.ranks.device) for figure in figures]
        total: list[float] = self.ranks.sum(torch.stack(own)).tolist()
        return total

    @property
    def _position(self) -> tuple[int, int, int]:
        """What all random numbers of an update come from, so that a resumed run draws the same."""
        return self.seed, self.progress.step, self.ranks.rank

    def _comparing(self, task: str) -> ComparingObjective | None:
        objective = self.model.objectives[task]
        return objective if isinstance(objective, ComparingObjective) else None

    def _recompute(self, task: str) -> bool:
        return self.stage.tasks[task].recompute

    def _on_device(self, batch: TaskBatch) -> tuple[list[list[Batch]], Batch]:
        """The inputs of a micro-batch, towers × segments, and its targets."""
        device = self.ranks.device
        towers = [[to_device(segment, device) for segment in tower] for tower in batch.towers]
        return towers, to_device(batch.targets, device)

    def _targets(self, chunks: Sequence[TaskBatch]) -> Batch:
        """The targets of chunks, which have one row an item, as those of one batch."""
        keys = chunks[0].targets
        return {key: torch.cat([chunk.targets[key] for chunk in chunks]).to(self.ranks.device) for key in keys}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All tensors of the training's state by kind and name, as this rank holds them."""
        tensors = {MODEL: self.model.state_dict(), OPTIMIZER: optimizer_tensors(self.model, self.optimizer)}
        return tensors if self.average is None else {**tensors, AVERAGE: self.average.tensors}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put the state of a checkpoint in place, to the bit, however many processes it was saved by.

        Args:
            checkpoint: whose files have been found to be as they were written.

        Raises:
            FailedJob: a tensor is missing, has another shape or is not finite.
        """
        source = str(checkpoint.folder)
        restore_tensors(self.model.state_dict(), checkpoint.sharded(MODEL), source)
        restore_optimizer(self.model, self.optimizer, checkpoint.sharded(OPTIMIZER), source)
        if self.average is not None:
            restore_tensors(self.average.tensors, checkpoint.sharded(AVERAGE), source)
        self.progress = Progress(**saved_state(checkpoint)["progress"])


def _rows(chunks: Sequence[TaskBatch]) -> Iterator[slice]:
    """Which rows of the whole batch each chunk has."""
    ends = list(itertools.accumulate(len(chunk.ids) for chunk in chunks))
    return map(slice, [0, *ends[:-1]], ends)


def seed_torch(*position: int) -> None:
    """Seed torch's generators from numbers such as (seed, step, rank); different positions are independent."""
    # SeedSequence hashes the numbers; manual_seed takes 63 bits of the hash.
    torch.manual_seed(int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0]) >> 1)


def learning_rate(update: int, *, peak: float, steps: int, warmup: int, schedule: str) -> float:
    """The learning rate of the next update.

    It rises linearly to ``peak`` over ``warmup`` updates and then falls linearly towards zero (``"linear"``, paper
    appendix) or stays (``"constant"``). No update has rate zero.

    Args:
        update: how many updates were applied before it.
        peak: the highest rate.
        steps: updates of the stage.
        warmup: updates until the peak.
        schedule: ``"linear"`` or ``"constant"``.
    """
    if update < warmup:
        return peak * (update + 1) / warmup
    if schedule == "constant":
        return peak
    return peak * (steps - update) / (steps - warmup)


def build_optimizer(model: nn.Module, settings: OptimizerSection) -> AdamW:
    """AdamW over all parameters that are not frozen, at learning rate 0 until an update sets it.

    Decayed are only the weights that multiply their input: those of torch's own linear and convolutional layers, and
    the parameters that a module names in ``decayed``, its own convolution for instance. Not decayed are biases, norms,
    tables of embeddings or positions, ``[CLS]``, temperatures. A parameter that gets no gradient in an update is passed
    over: it, its moments and its own step count stay as they are to the bit.
    """
    weights = {id(module.weight) for module in model.modules() if isinstance(module, (nn.Linear, _ConvNd))}
    weights |= {id(getattr(module, name)) for module in model.modules() for name in getattr(module, "decayed", ())}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if id(p) in weights], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if id(p) not in weights], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=0.0, betas=settings.betas, eps=settings.eps, fused=True)


class MovingAverage:
    """The exponential moving average of every parameter over the updates that changed it.

    An update moves the averages of the parameters that it activated: average ← decay · average + (1 - decay) ·
    parameter. Those of other skills stay as they are to the bit, so that a skill's average does not depend on how
    many updates other tasks had. Each rank averages the parts that it holds. It starts from the first parameters.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """``decay`` is in [0, 1); 0 follows the parameters."""
        self._decay = decay
        self._parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self.tensors = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        """The averages, laid out as the parameters are."""

    @torch.no_grad()
    def update(self) -> None:
        """Take in the update just applied; its gradients still show what it activated."""
        moved = [name for name, parameter in self._parameters.items() if parameter.grad is not None]
        averages = [local_shard(self.tensors[name]) for name in moved]
        parameters = [local_shard(self._parameters[name]) for name in moved]
        torch._foreach_lerp_(averages, parameters, 1 - self._decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """While entered, the model has the averages for its parameters, and ``tensors`` the parameters."""
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
def average_checkpoints(model: nn.Module, found: Iterable[Checkpoint], *, every: int, count: int, last: int) -> None:
    """Give the model, in whatever layout, the mean of the parameters in a stage's newest checkpoints.

    One that a signal asked for is not among them, so that a run that was stopped ends like one that was not.

    Args:
        model: loses the parameters that it has.
        found: complete checkpoints of the stage.
        every: steps from one regular checkpoint to the next.
        count: how many are averaged.
        last: the stage's last step, which has a checkpoint too.

    Raises:
        FailedJob: one is damaged.
    """
    regular = [each for each in found if each.step <= last and (each.step % every == 0 or each.step == last)]
    newest = sorted(regular, key=lambda checkpoint: checkpoint.step)[-count:]
    for each in newest:
        each.verify()
    saved = [checkpoint.sharded(MODEL) for checkpoint in newest]
    for name, parameter in model.named_parameters():
        chunk = Chunk.of(parameter)
        # In float64, so that the order of the sum does not show in float32.
        total = sum((each.read(name, chunk).double() for each in saved), torch.zeros(chunk.size, dtype=torch.float64))
        local_shard(parameter).copy_(total / len(saved))
