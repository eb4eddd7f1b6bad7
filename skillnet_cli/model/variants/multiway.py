"""More of a layer than its Q/K/V projections to every skill: ``routed`` with ``"out"``, ``"ffn"`` or ``"norm"``.

The Multiway Transformers of BEiT-3 (Wang et al. 2022) and ONE-PEACE (Wang et al. 2023) route feed-forward networks and
norms and share the attention.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from skillnet_cli.model.attention import AttentionPlan, attend
from skillnet_cli.model.encoder import Block, Encoder, RoutedAttention, Routes, Run, by_skill, direct, side_by_side
from skillnet_cli.model.variants.dense import DenseAttention


class PerSkill(nn.Module):
    """A module of which every skill has its own."""

    def __init__(self, skills: Iterable[str], make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.skills = nn.ModuleDict({skill: make() for skill in skills})

    def forward(self, tokens: Float[Tensor, "T hidden"], routes: Routes) -> Float[Tensor, "T hidden"]:
        return by_skill(self.skills, tokens, routes)


def through(module: nn.Module, tokens: Float[Tensor, "T hidden"], routes: Routes) -> Float[Tensor, "T hidden"]:
    """Tokens through a module that all skills share, or through each skill's own."""
    return module(tokens, routes) if isinstance(module, PerSkill) else module(tokens)


class MultiwayAttention(RoutedAttention):
    """Attention whose output projection too is the skill's own."""

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> Float[Tensor, "T hidden"]:
        query, key, value = self.project(tokens, routes).unflatten(-1, (3, self.heads, -1)).unbind(1)
        return through(self.out, attend(query, key, value, plan).flatten(1), routes)


class SharedProjectionAttention(DenseAttention, MultiwayAttention):
    """Attention whose output projection alone is the skill's own."""


class MultiwayBlock(Block):
    """One layer, norms in front, each of its modules shared or the skill's own."""

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> Float[Tensor, "T hidden"]:
        normed = through(self.attention_norm, tokens, routes)
        tokens = tokens + self.dropout(self.attention(normed, plan, routes))
        normed = through(self.ffn_norm, tokens, routes)
        return tokens + self.dropout(through(self.feed_forward, normed, routes))


class PostNormMultiwayBlock(Block):
    """The same, norms behind the residual sums."""

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> Float[Tensor, "T hidden"]:
        tokens = tokens + self.dropout(self.attention(tokens, plan, routes))
        tokens = through(self.attention_norm, tokens, routes)
        tokens = tokens + self.dropout(through(self.feed_forward, tokens, routes))
        return through(self.ffn_norm, tokens, routes)


class MultiwayEncoder(Encoder):
    """The layers one after another, then the final norm, shared or the skill's own."""

    def forward(
        self, tokens: Float[Tensor, "T hidden"], lengths: Int[Tensor, " items"], routes: Routes, run: Run = direct
    ) -> Float[Tensor, "T hidden"]:
        order, inverse, plan, routes = side_by_side(lengths, routes)
        tokens = tokens[order]
        for block in self.blocks:
            tokens = run(block, tokens, plan, routes)
        return through(self.final_norm, tokens, routes)[inverse]


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
            block.attention.out = PerSkill(skills, lambda: nn.Linear(hidden, hidden))
        if "ffn" in routed:
            block.feed_forward = PerSkill(skills, feed_forward)
        if "norm" in routed:
            block.attention_norm = PerSkill(skills, lambda: nn.LayerNorm(hidden))
            block.ffn_norm = PerSkill(skills, lambda: nn.LayerNorm(hidden))
    if "norm" in routed and isinstance(encoder.final_norm, nn.LayerNorm):
        encoder.final_norm = PerSkill(skills, lambda: nn.LayerNorm(hidden))
