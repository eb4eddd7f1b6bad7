"""What a configuration may choose instead of the paper's encoder, put together by build.py.

* ``routing = "dense"``: one projection that is always on; the encoders of ``moe`` and ``separate`` have it too.
* ``routing = "moe"``: a mixture of experts in place of the feed-forward network (GShard, Lepikhin et al. 2020).
* ``routing = "separate"``: a network for each task, sharing nothing: the paper's modality-specific models (§5.1).
* ``routed`` with ``"out"``, ``"ffn"`` or ``"norm"``: more of a layer than its Q/K/V projections belongs to every skill.
  The Multiway Transformers of BEiT-3 (Wang et al. 2022) and ONE-PEACE (Wang et al. 2023) route feed-forward networks
  and norms and share the attention.

How a layer used its experts is what its balance loss is made of. It is returned beside the tokens, as *usage*: for each
expert the sum of its gates over the tokens, and the number of tokens whose first choice it is. Sums, so that those of
several towers and ranks add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

from skillnet_cli.model.encoder import FeedForward, Routes, Usage, by_skill
from skillnet_cli.model.sequences import Tower
from skillnet_cli.objectives.base import Loss


class PerSkill(nn.Module):
    """A module of which every skill has its own, each made by ``make``."""

    def __init__(self, skills: Iterable[str], make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.skills = nn.ModuleDict({skill: make() for skill in skills})

    def forward(self, tokens: Float[Tensor, "T hidden"], routes: Routes) -> Float[Tensor, "T hidden"]:
        return by_skill(self.skills, tokens, routes)


TOP = 2
"""Experts that work on a token."""


class MixtureOfExperts(nn.Module):
    """Feed-forward networks of which every token goes through two, chosen by a gate; no token is dropped.

    The gate is a softmax over the experts; a token's output is that of its two best, weighted by their gates, which
    are scaled to sum to one. An expert that no token has chosen still runs, on none: its gradient is zero rather than
    missing, as it is where a token of another rank has chosen it, so that all ranks reduce the same gradients.
    """

    def __init__(self, experts: Iterable[FeedForward], hidden: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.gate = nn.Linear(hidden, len(self.experts), bias=False)

    def forward(
        self, tokens: Float[Tensor, "T hidden"], routes: Routes | None = None
    ) -> tuple[Float[Tensor, "T hidden"], Usage]:
        """The tokens' outputs, and the usage; the gate alone decides, whatever skill a token is of."""
        gates = self.gates(tokens)
        best, chosen = gates.topk(TOP)  # (T, TOP)
        places = chosen.flatten().argsort(stable=True)  # of T x TOP choices, those of the first expert in front
        counts = chosen.flatten().bincount(minlength=len(self.experts)).tolist()
        groups = tokens[places // TOP].split(counts)
        done = torch.cat([expert(group) for expert, group in zip(self.experts, groups, strict=True)])
        weights = best / best.sum(-1, keepdim=True)
        output = (done[places.argsort()].unflatten(0, (-1, TOP)) * weights[..., None]).sum(1)
        first = chosen[:, 0].bincount(minlength=len(self.experts))
        return output.to(tokens.dtype), torch.stack([gates.sum(0), first.to(gates.dtype)])

    def gates(self, tokens: Float[Tensor, "T hidden"]) -> Float[Tensor, "T experts"]:
        """The softmax over the experts, at least in float32 whatever the autocast: small differences decide."""
        with torch.autocast(tokens.device.type, enabled=False):
            gates: Tensor = self.gate(tokens.to(self.gate.weight.dtype)).softmax(dim=-1)
        return gates


def balanced(loss: Loss, usages: Sequence[Float[Tensor, "layers 2 experts"]], weight: float) -> Loss:
    """A (sum, count) with GShard's balance loss in it: the mean becomes mean + ``weight`` × balance.

    A layer's balance is experts × Σ (mean gate of the expert) × (fraction of tokens whose first choice it is), 1 where
    all are used alike; the balance is the layers' mean. Means and fractions are over the tokens of all towers
    (``usages``) of all ranks, so N ranks equal one; each of the micro-batches of an update has a balance of its own,
    weighted like its losses by its count. Only the mean gates carry gradients. This rank adds its own tokens' share
    of it; all ranks must call this together.
    """
    total, count = loss
    gates, first = torch.stack(list(usages)).sum(0).unbind(1)  # (layers, experts) each
    first_everywhere, count_everywhere = _over_ranks(first.detach(), count)
    tokens = first_everywhere.sum(-1, keepdim=True)
    share = len(gates[0]) * (gates / tokens * first_everywhere / tokens).sum(-1).mean()
    return total + weight * (count_everywhere * share), count


def _over_ranks(first: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """The two, each summed over all ranks, in one communication."""
    if not distributed.is_initialized():
        return first, count
    both = torch.cat([first.flatten().double(), count.double()[None]])
    distributed.all_reduce(both)
    return both[:-1].view_as(first).to(first.dtype), both[-1].to(first.dtype)


class TaskNetwork(nn.Module):
    """All that one task consists of: a Transformer for each of its towers, and its heads."""

    def __init__(self, towers: Iterable[Tower], heads: nn.ModuleDict) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)
        self.heads = heads
