"""How much memory, time and disk a stage takes: arithmetic on what is known of the model and its dry batches.

All that is assumed stands here. Parameters, gradients and both of AdamW's moments are float32, 4 bytes each. A
backward pass is two forward passes. On named hardware products run at :data:`hardware.UTILISATION` of the peak, and
the gradients of the activated parameters are reduced over the ranks behind the backward pass, each rank sending twice
their bytes (the ring's reduce-scatter and all-gather).
"""

from __future__ import annotations

from dataclasses import dataclass

from skillnet_cli.engine.forecasting.dry import Cost
from skillnet_cli.engine.forecasting.hardware import UTILISATION, Fleet
from skillnet_cli.objectives.contrastive import SCORES
from skillnet_cli.recipe.schema import EmaSection, Stage

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


def state_bytes(sizes: Sizes, ranks: int, strategy: str) -> float:
    """What a rank holds from update to update, and while it reduces: parameters, what is kept beside, gradients."""
    whole = FLOAT * (sizes.total + sizes.beside * sizes.trained + sizes.activated)
    if strategy == "replicate" or ranks == 1:
        return whole
    return whole / ranks + 2 * FLOAT * sizes.unit  # a unit's parameters while it computes, and the next one's


def similarity_bytes(batch: int, ranks: int) -> float:
    """The similarities of a rank's pairs with those of all ranks, in both directions; no more than fit at once."""
    return 2 * LOGIT_COPIES * FLOAT * min(batch / ranks * batch, SCORES)


@dataclass(frozen=True)
class Load:
    """One task's update: items over all ranks, those of a rank's micro-batch, FLOPs forward of one, what they cost.

    ``share`` is how long an item is beside the longest, by its tokens. ``twice`` says that the items are encoded once
    more, before (a contrastive batch in pieces) or in the backward pass (activations computed anew).
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
        """FLOPs that the update's gradient takes, over all ranks; computing anew does not count."""
        return self.batch * self.share * self.flops * (1 + BACKWARD)

    @property
    def work(self) -> float:
        """How much is computed beside what the gradient takes."""
        return (2 + BACKWARD) / (1 + BACKWARD) if self.twice else 1.0

    def transient_bytes(self, items: int, ranks: int) -> float | None:
        """What a rank needs beside its state for a micro-batch of so many items; None where it was not measured."""
        if self.cost is None:
            return None
        return self.cost.bytes_of(items) + (similarity_bytes(self.batch, ranks) if self.contrastive else 0.0)


def seconds_on(fleet: Fleet, load: Load, sizes: Sizes) -> float:
    """Seconds of an update on named hardware, by the model above."""
    computing = load.work * load.flops_an_update / (fleet.count * fleet.hardware.peak * 1e12 * UTILISATION)
    sent = 2 * FLOAT * sizes.activated * (fleet.count - 1) / fleet.count
    return computing + sent / (fleet.hardware.link * 1e9)


def seconds_here(load: Load, sizes: Sizes, machines: int) -> float | None:
    """Seconds of an update on this machine, or on so many like it, as dry batches measured it."""
    if load.cost is None:
        return None
    pieces = -(-load.batch // load.micro_batch)
    encoded = load.batch * load.share * load.cost.item_seconds + pieces * load.cost.fixed_seconds
    return load.work * encoded / machines + sizes.activated * load.cost.step_seconds


def largest_micro_batch(load: Load, state: float, memory: float, ranks: int) -> int | None:
    """The largest power of two of items (or the rank's whole share) that fits beside the state; 0 if none does."""
    share = load.batch // ranks
    if load.cost is None:
        return None
    sizes = [share, *(2**power for power in range(share.bit_length() - 1, -1, -1) if 2**power < share)]
    return next((n for n in sizes if state + (load.transient_bytes(n, ranks) or 0.0) <= memory), 0)


def kept_beside(stage: Stage) -> int:
    """Numbers kept for each parameter that trains: AdamW's moments, and the moving average where one is wanted."""
    return MOMENTS + isinstance(stage.average, EmaSection)


def checkpoint_bytes(total: int, trained: int, beside: int = MOMENTS) -> float:
    """A checkpoint of the whole model: its parameters, and what is kept beside each that trains."""
    return FLOAT * (total + beside * trained)
