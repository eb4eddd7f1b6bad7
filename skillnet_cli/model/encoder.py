"""The routed Transformer of paper §3.2: every skill owns the Q/K/V projections, everything else is shared.

Tokens are packed: the sequences of a batch lie one after another, T tokens in all, without padding. Which skill
projects a token is an argument (:class:`Routes`), never state. Everything that a layer consists of is called with the
tokens and their routes, so that a module which all skills share, one which every skill has of its own and a mixture of
experts (:mod:`skillnet_cli.model.variants`) can take the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

from skillnet_cli.model.attention import PLAIN_LONGEST, AttentionPlan, attend, order_by_length


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
        only: Tensor = modules[routes.skills[0]](tokens)
        return only
    groups = tokens[routes.order].split(routes.counts)
    done = [modules[skill](group) for skill, group in zip(routes.skills, groups, strict=True)]
    return torch.cat(done)[routes.inverse]


class SkillProjection(nn.Linear):
    """One skill's query, key and value projections of one layer, fused: W^Q, W^K and W^V of eq. 5."""

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden, 3 * hidden)


class _OutputProjection(nn.Linear):
    """W^O of eq. 1, shared by all skills."""

    def forward(self, tokens: Float[Tensor, "... hidden"], routes: Routes | None = None) -> Float[Tensor, "... hidden"]:
        return super().forward(tokens)


class _LayerNorm(nn.LayerNorm):
    """A layer norm, shared by all skills."""

    def forward(self, tokens: Float[Tensor, "... hidden"], routes: Routes | None = None) -> Float[Tensor, "... hidden"]:
        return super().forward(tokens)


class RoutedAttention(nn.Module):
    """Multi-head attention (eq. 1 to 4) whose projections are chosen by the activated skill (eq. 5).

    Without skills it has one projection that is always on, ``qkv``, whatever skill a token is of.
    """

    def __init__(self, hidden: int, heads: int, skills: Iterable[str]) -> None:
        super().__init__()
        self.heads = heads
        self.skills = nn.ModuleDict({skill: SkillProjection(hidden) for skill in skills})
        self.out: nn.Module = _OutputProjection(hidden, hidden)
        self.qkv = None if self.skills else SkillProjection(hidden)

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> Float[Tensor, "T hidden"]:
        qkv = by_skill(self.skills, tokens, routes) if self.qkv is None else self.qkv(tokens)
        query, key, value = qkv.unflatten(-1, (3, self.heads, -1)).unbind(1)  # (T, heads, head width) each
        output: Tensor = self.out(attend(query, key, value, plan).flatten(1), routes)
        return output


class FeedForward(nn.Module):
    """The feed-forward network (paper §3.1), shared by all skills."""

    def __init__(self, hidden: int, ffn: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up = nn.Linear(hidden, ffn)
        self.down = nn.Linear(ffn, hidden)
        self.activation = activation

    def forward(self, tokens: Float[Tensor, "T hidden"], routes: Routes | None = None) -> Float[Tensor, "T hidden"]:
        output: Tensor = self.down(self.activation(self.up(tokens)))
        return output


Usage: TypeAlias = Float[Tensor, "2 experts"]
"""How a layer's mixture used its experts: each one's gates summed over the tokens, and for how many it came first."""


class Block(nn.Module):
    """One layer (paper §3.1): attention and feed-forward network, each added to its input.

    A layer norm stands in front of each (``norm_first``, as in CLIP) or behind each sum (as in BERT).
    """

    def __init__(
        self, attention: RoutedAttention, feed_forward: nn.Module, hidden: int, dropout: float, norm_first: bool
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention_norm: nn.Module = _LayerNorm(hidden)
        self.attention = attention
        self.ffn_norm: nn.Module = _LayerNorm(hidden)
        self.feed_forward = feed_forward
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> tuple[Float[Tensor, "T hidden"], Usage | None]:
        """The tokens after this layer, and the usage of its mixture of experts, if it has one."""
        if self.norm_first:
            tokens = tokens + self.dropout(self.attention(self.attention_norm(tokens, routes), plan, routes))
            update, usage = _with_usage(self.feed_forward(self.ffn_norm(tokens, routes), routes))
            return tokens + self.dropout(update), usage
        tokens = self.attention_norm(tokens + self.dropout(self.attention(tokens, plan, routes)), routes)
        update, usage = _with_usage(self.feed_forward(tokens, routes))
        return self.ffn_norm(tokens + self.dropout(update), routes), usage


def _with_usage(returned: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
    """What a feed-forward module returned, and its usage: a mixture of experts alone returns one."""
    return returned if isinstance(returned, tuple) else (returned, None)


class Encoder(nn.Module):
    """The backbone of paper §3.2: the layers one after another, then the shared final norm where norms come first.

    ``plain_longest`` is that of :class:`AttentionPlan`.
    """

    def __init__(self, blocks: Iterable[Block], hidden: int, norm_first: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.final_norm: nn.Module | None = _LayerNorm(hidden) if norm_first else None
        self.plain_longest = PLAIN_LONGEST

    def forward(
        self,
        tokens: Float[Tensor, "T hidden"],
        lengths: Int[Tensor, " items"],
        routes: Routes,
        recompute: bool = False,
    ) -> tuple[Float[Tensor, "T hidden"], Float[Tensor, "layers 2 experts"] | None]:
        """Encode packed sequences; a sequence attends to itself only.

        Args:
            tokens: the sequences one after another.
            lengths: how many tokens each has.
            routes: which skill each token is of.
            recompute: keep only the layers' inputs for the backward pass, which recomputes the rest, with the same
                dropout.

        Returns:
            The final tokens, in the same order, and every layer's usage of its mixture, if the layers have mixtures.
        """
        # Sequences of one length side by side: attention takes them together.
        order = order_by_length(lengths)
        inverse = order.argsort()
        tokens, routes = tokens[order], routes.reordered(order, inverse)
        plan = AttentionPlan(lengths.sort().values, self.plain_longest)
        # Alone, a layer that is recomputed stops as soon as it has what it needs. Over several ranks it runs to its
        # end: stopped within a part that is a unit of communication, it would leave that unit waiting for the end.
        recomputed = partial(checkpoint, use_reentrant=False, early_stop=not distributed.is_initialized())
        usages = []
        for block in self.blocks:
            tokens, usage = recomputed(block, tokens, plan, routes) if recompute else block(tokens, plan, routes)
            usages += [] if usage is None else [usage]
        if self.final_norm is not None:
            tokens = self.final_norm(tokens, routes)
        return tokens[inverse], torch.stack(usages) if usages else None
