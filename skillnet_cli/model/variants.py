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

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from skillnet_cli.model.attention import AttentionPlan, attend
from skillnet_cli.model.encoder import (
    Block,
    Encoder,
    FeedForward,
    RoutedAttention,
    Routes,
    Run,
    SkillProjection,
    by_skill,
    direct,
    side_by_side,
)
from skillnet_cli.objectives.base import Loss


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's approximation of gelu, x · sigmoid(1.702 x), by way of silu: one fused operation and two products."""
    return F.silu(1.702 * x) / 1.702


class DenseAttention(RoutedAttention):
    """Multi-head attention (eq. 1 to 4) with one projection that is always on, whatever skill a token is of."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__(hidden, heads, skills=())
        self.qkv = SkillProjection(hidden)

    def project(self, tokens: Float[Tensor, "T hidden"], routes: Routes) -> Float[Tensor, "T 3*hidden"]:
        """Every token's query, key and value."""
        return self.qkv(tokens)


class PostNormBlock(Block):
    """One layer, layer norms behind the residual sums (as in BERT)."""

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> Float[Tensor, "T hidden"]:
        tokens = self.attention_norm(tokens + self.dropout(self.attention(tokens, plan, routes)))
        return self.ffn_norm(tokens + self.dropout(self.feed_forward(tokens)))


class _PerSkill(nn.Module):
    """A module of which every skill has its own."""

    def __init__(self, skills: Iterable[str], make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.skills = nn.ModuleDict({skill: make() for skill in skills})

    def forward(self, tokens: Float[Tensor, "T hidden"], routes: Routes) -> Float[Tensor, "T hidden"]:
        return by_skill(self.skills, tokens, routes)


def _through(module: nn.Module, tokens: Float[Tensor, "T hidden"], routes: Routes) -> Float[Tensor, "T hidden"]:
    """Tokens through a module that all skills share, or through each skill's own."""
    return module(tokens, routes) if isinstance(module, _PerSkill) else module(tokens)


class MultiwayAttention(RoutedAttention):
    """Attention whose output projection too is the skill's own."""

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> Float[Tensor, "T hidden"]:
        query, key, value = self.project(tokens, routes).unflatten(-1, (3, self.heads, -1)).unbind(1)
        return _through(self.out, attend(query, key, value, plan).flatten(1), routes)


class SharedProjectionAttention(DenseAttention, MultiwayAttention):
    """Attention whose output projection alone is the skill's own."""


class MultiwayBlock(Block):
    """One layer, norms in front, each of its modules shared or the skill's own."""

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> Float[Tensor, "T hidden"]:
        normed = _through(self.attention_norm, tokens, routes)
        tokens = tokens + self.dropout(self.attention(normed, plan, routes))
        normed = _through(self.ffn_norm, tokens, routes)
        return tokens + self.dropout(_through(self.feed_forward, normed, routes))


class PostNormMultiwayBlock(Block):
    """The same, norms behind the residual sums."""

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> Float[Tensor, "T hidden"]:
        tokens = tokens + self.dropout(self.attention(tokens, plan, routes))
        tokens = _through(self.attention_norm, tokens, routes)
        tokens = tokens + self.dropout(_through(self.feed_forward, tokens, routes))
        return _through(self.ffn_norm, tokens, routes)


class MultiwayEncoder(Encoder):
    """The layers one after another, then the final norm, shared or the skill's own."""

    def forward(
        self, tokens: Float[Tensor, "T hidden"], lengths: Int[Tensor, " items"], routes: Routes, run: Run = direct
    ) -> Float[Tensor, "T hidden"]:
        order, inverse, plan, routes = side_by_side(lengths, routes)
        tokens = tokens[order]
        for block in self.blocks:
            tokens = run(block, tokens, plan, routes)
        return _through(self.final_norm, tokens, routes)[inverse]


def give_to_skills(
    encoder: Encoder,
    routed: Collection[str],
    skills: Collection[str],
    hidden: int,
    feed_forward: Callable[[], nn.Module],
) -> None:
    """Put a module for each skill where ``routed`` has one: ``"out"``, ``"ffn"``, ``"norm"`` (the final one too).

    Args:
        feed_forward: makes a feed-forward network.
    """
    layers: Any = encoder.blocks
    for block in layers:
        if "out" in routed:
            block.attention.out = _PerSkill(skills, lambda: nn.Linear(hidden, hidden))
        if "ffn" in routed:
            block.feed_forward = _PerSkill(skills, feed_forward)
        if "norm" in routed:
            block.attention_norm = _PerSkill(skills, lambda: nn.LayerNorm(hidden))
            block.ffn_norm = _PerSkill(skills, lambda: nn.LayerNorm(hidden))
    if "norm" in routed and isinstance(encoder.final_norm, nn.LayerNorm):
        encoder.final_norm = _PerSkill(skills, lambda: nn.LayerNorm(hidden))


TOP = 2
"""Experts that work on a token."""

Usage: TypeAlias = Float[Tensor, "2 experts"]


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

    def forward(self, tokens: Float[Tensor, "T hidden"]) -> tuple[Float[Tensor, "T hidden"], Usage]:
        """The tokens' outputs, and the usage."""
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
            return self.gate(tokens.to(self.gate.weight.dtype)).softmax(dim=-1)


class MixtureBlock(Block):
    """One layer, norms in front, a mixture of experts in place of the feed-forward network."""

    def forward(  # type: ignore[override]
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> tuple[Float[Tensor, "T hidden"], Usage]:
        tokens = tokens + self.dropout(self.attention(self.attention_norm(tokens), plan, routes))
        output, usage = self.feed_forward(self.ffn_norm(tokens))
        return tokens + self.dropout(output), usage


class PostNormMixtureBlock(Block):
    """The same, norms behind the residual sums."""

    def forward(  # type: ignore[override]
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> tuple[Float[Tensor, "T hidden"], Usage]:
        tokens = self.attention_norm(tokens + self.dropout(self.attention(tokens, plan, routes)))
        output, usage = self.feed_forward(tokens)
        return self.ffn_norm(tokens + self.dropout(output)), usage


class MixtureEncoder(Encoder):
    """The layers one after another, then the final norm; returns every layer's usage beside the tokens."""

    def forward(  # type: ignore[override]
        self, tokens: Float[Tensor, "T hidden"], lengths: Int[Tensor, " items"], routes: Routes, run: Run = direct
    ) -> tuple[Float[Tensor, "T hidden"], Float[Tensor, "layers 2 experts"]]:
        order, inverse, plan, routes = side_by_side(lengths, routes)
        tokens, usages = tokens[order], []
        for block in self.blocks:
            tokens, usage = run(block, tokens, plan, routes)
            usages.append(usage)
        return self.final_norm(tokens)[inverse], torch.stack(usages)


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


class Tower(nn.Module):
    """A standard Transformer and the embedders of the skills whose tokens it reads."""

    def __init__(self, embedders: nn.ModuleDict, encoder: nn.Module) -> None:
        super().__init__()
        self.embedders = embedders
        self.encoder = encoder


class TaskNetwork(nn.Module):
    """All that one task consists of: a Transformer for each of its towers, and its heads."""

    def __init__(self, towers: Iterable[Tower], heads: nn.ModuleDict) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)
        self.heads = heads
