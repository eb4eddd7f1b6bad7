"""Contrast of two towers with in-batch negatives, as CLIP does (paper §4.1 and §4.2: image, video, code)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from skillnet_cli.objectives.base import Encoded, Heads, Loss, Objective

START = 1 / 0.07
LARGEST = 100.0


class Temperature(nn.Module):
    """A learnt factor on similarities: starts at 1/0.07, never above 100 (the values of CLIP)."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor([math.log(START)]))

    def forward(self, similarities: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        return similarities * self.log_scale.clamp(max=math.log(LARGEST)).exp()


class Contrastive(Objective):
    """Symmetric cross-entropy of the true pair among all pairs of the global batch; counted by pair.

    Under torch.distributed the negatives are those of all ranks, with gradients to each, so N ranks equal one.
    """

    def heads(self, hidden: int) -> dict[str, Callable[[], nn.Module]]:
        return {self.task.name: Temperature}

    def loss(self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads) -> Loss:
        one, other = self.predict(towers, targets, heads, embedders)
        scale = heads[self.task.name]
        with torch.autocast(one.device.type, enabled=False):
            all_one, all_other = gather(one), gather(other)
            true = torch.arange(len(one), device=one.device) + rank() * len(one)
            forth = F.cross_entropy(scale(one @ all_other.T), true, reduction="sum")
            back = F.cross_entropy(scale(other @ all_one.T), true, reduction="sum")
        return (forth + back) / 2, torch.tensor(len(one), device=one.device)

    def stand_ins(self, items: int, lengths: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        return {}

    def predict(
        self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads
    ) -> tuple[Float[Tensor, "items hidden"], Float[Tensor, "items hidden"]]:
        """The two towers' vectors: their final [CLS], L2-normalised."""
        one, other = (F.normalize(tower.cls.float(), dim=-1) for tower in towers)
        return one, other


def rank() -> int:
    """This process's rank, 0 outside torch.distributed."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def gather(vectors: Float[Tensor, "items hidden"]) -> Float[Tensor, "all_items hidden"]:
    """The vectors of all ranks in the order of ranks, with gradients to each; equal numbers on every rank."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return vectors
    return torch.cat(all_gather(vectors))
