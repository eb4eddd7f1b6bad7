"""The routed Transformer of paper §3.2: every skill owns the Q/K/V projections, everything else is shared.

Tokens are packed: the sequences of a batch lie one after another, T tokens in all, without padding. Which skill
projects a token is an argument (:class:`Routes`), never state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from skillnet_cli.model.attention import AttentionPlan, attend, order_by_length


@dataclass(frozen=True)
class Routes:
    """Which skill projects which tokens: all of them one skill, or ``order`` groups the tokens by skill.

    ``order`` holds the rows of the first skill's tokens, then those of the second, …; ``counts`` says how many each
    skill has; ``inverse`` brings tokens in that order back to where they were.
    """

    skills: tuple[str, ...]
    counts: tuple[int, ...] = ()
    order: Int[Tensor, " T"] | None = None
    inverse: Int[Tensor, " T"] | None = None

    def reordered(self, order: Int[Tensor, " T"], inverse: Int[Tensor, " T"]) -> Routes:
        """The same routes when the tokens are put in another order, whose inverse is ``inverse``."""
        if self.order is None or self.inverse is None:
            return self
        return Routes(self.skills, self.counts, inverse[self.order], self.inverse[order])


def by_skill(modules: nn.ModuleDict, tokens: Float[Tensor, "T hidden"], routes: Routes) -> Float[Tensor, "T _"]:
    """Every token through the module of its own skill; the modules of other skills are not touched."""
    if routes.order is None:
        return modules[routes.skills[0]](tokens)
    groups = tokens[routes.order].split(routes.counts)
    done = [modules[skill](group) for skill, group in zip(routes.skills, groups, strict=True)]
    return torch.cat(done)[routes.inverse]


class SkillProjection(nn.Linear):
    """One skill's query, key and value projections of one layer, fused: W^Q, W^K and W^V of eq. 5."""

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden, 3 * hidden)


class RoutedAttention(nn.Module):
    """Multi-head attention (eq. 1 to 4) whose projections are chosen by the activated skill (eq. 5)."""

    def __init__(self, hidden: int, heads: int, skills: Iterable[str]) -> None:
        super().__init__()
        self.heads = heads
        self.skills = nn.ModuleDict({skill: SkillProjection(hidden) for skill in skills})
        self.out = nn.Linear(hidden, hidden)

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> Float[Tensor, "T hidden"]:
        qkv = self.project(tokens, routes).unflatten(-1, (3, self.heads, -1))  # (T, 3, heads, head width)
        query, key, value = qkv.unbind(1)
        return self.out(attend(query, key, value, plan).flatten(1))

    def project(self, tokens: Float[Tensor, "T hidden"], routes: Routes) -> Float[Tensor, "T 3*hidden"]:
        """Every token's query, key and value, by its own skill's projection."""
        return by_skill(self.skills, tokens, routes)


class FeedForward(nn.Module):
    """The feed-forward network (paper §3.1), shared by all skills."""

    def __init__(self, hidden: int, ffn: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up = nn.Linear(hidden, ffn)
        self.down = nn.Linear(ffn, hidden)
        self.activation = activation

    def forward(self, tokens: Float[Tensor, "T hidden"]) -> Float[Tensor, "T hidden"]:
        return self.down(self.activation(self.up(tokens)))


class Block(nn.Module):
    """One layer (paper §3.1): attention and feed-forward network, each added to its input, behind its norm (CLIP)."""

    def __init__(self, attention: RoutedAttention, feed_forward: nn.Module, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden)
        self.attention = attention
        self.ffn_norm = nn.LayerNorm(hidden)
        self.feed_forward = feed_forward
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> Float[Tensor, "T hidden"]:
        tokens = tokens + self.dropout(self.attention(self.attention_norm(tokens), plan, routes))
        return tokens + self.dropout(self.feed_forward(self.ffn_norm(tokens)))


Run: TypeAlias = Callable[..., Any]
"""How a layer is called: ``run(layer, *inputs)`` is what ``layer(*inputs)`` is."""


def direct(block: nn.Module, *inputs: Any) -> Any:
    """Call a layer."""
    return block(*inputs)


class Encoder(nn.Module):
    """The backbone of paper §3.2: the layers one after another, then the shared final norm."""

    def __init__(self, blocks: Iterable[nn.Module], final_norm: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = final_norm

    def forward(
        self, tokens: Float[Tensor, "T hidden"], lengths: Int[Tensor, " items"], routes: Routes, run: Run = direct
    ) -> Float[Tensor, "T hidden"]:
        """Encode packed sequences of the given lengths; a sequence attends to itself only."""
        order, inverse, plan, routes = side_by_side(lengths, routes)
        tokens = tokens[order]
        for block in self.blocks:
            tokens = run(block, tokens, plan, routes)
        return self.final_norm(tokens)[inverse]


def side_by_side(
    lengths: Int[Tensor, " items"], routes: Routes
) -> tuple[Int[Tensor, " T"], Int[Tensor, " T"], AttentionPlan, Routes]:
    """An order that puts sequences of one length side by side, so that attention takes them together.

    Returns:
        The order, its inverse, and the plan and the routes of tokens in that order.
    """
    order = order_by_length(lengths)
    inverse = order.argsort()
    return order, inverse, AttentionPlan(lengths.sort().values), routes.reordered(order, inverse)
