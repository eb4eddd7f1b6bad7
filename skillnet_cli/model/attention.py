"""Attention over packed sequences: no padding, no masks.

Shapes: T tokens of all sequences together, H heads, D width of a head, n sequences of one length, L that length.
"""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

PLAIN_LONGEST = 512
"""Tokens of the longest sequence that a CPU attends to in plain products in bf16 (``benchmarks/attention.py``)."""


class AttentionPlan:
    """Where the sequences lie in the packed tokens; made once for a forward pass, used by every layer."""

    def __init__(self, lengths: Int[Tensor, " items"], plain_longest: int = PLAIN_LONGEST) -> None:
        """Plan for packed sequences.

        Args:
            lengths: how many tokens each sequence has, in the order in which they are packed.
            plain_longest: the longest sequence that a CPU attends to in plain products in bf16; with 0 the fused
                kernel computes all of them, as on a GPU.
        """
        self.lengths = lengths
        self.plain_longest = plain_longest

    @cached_property
    def starts(self) -> Int[Tensor, " boundaries"]:
        """The row of each sequence's first token, and the number of all tokens at the end, as int32."""
        return F.pad(self.lengths.cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def longest(self) -> int:
        """The length of the longest sequence."""
        return int(self.lengths.max())

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """(tokens, length of each sequence) of every run of neighbouring sequences of one length."""
        lengths, counts = self.lengths.unique_consecutive(return_counts=True)
        return list(zip((lengths * counts).tolist(), lengths.tolist(), strict=True))


def order_by_length(lengths: Int[Tensor, " items"]) -> Int[Tensor, " T"]:
    """The rows of packed tokens in an order that puts sequences of one length side by side, short ones first."""
    items = lengths.argsort(stable=True)
    ordered = lengths[items]
    starts = (lengths.cumsum(0) - lengths)[items]
    shift = starts - (ordered.cumsum(0) - ordered)
    return torch.arange(int(lengths.sum()), device=lengths.device) + shift.repeat_interleave(ordered)


def attend(
    q_THD: Float[Tensor, "T H D"], k_THD: Float[Tensor, "T H D"], v_THD: Float[Tensor, "T H D"], plan: AttentionPlan
) -> Float[Tensor, "T H D"]:
    """Scaled dot-product attention (eq. 3) of every token to the tokens of its own sequence.

    Any order of sequences gives the same; the fewer the plan's runs, the fewer the products.
    """
    if q_THD.is_cuda and q_THD.dtype in (torch.bfloat16, torch.float16):
        from torch.nn.attention.varlen import varlen_attn

        out = varlen_attn(q_THD, k_THD, v_THD, plan.starts, plan.starts, plan.longest, plan.longest)
        assert isinstance(out, Tensor), "a tuple comes only with return_aux"
        return out
    sizes = [tokens for tokens, _ in plan.runs]
    parts = zip(q_THD.split(sizes), k_THD.split(sizes), v_THD.split(sizes), plan.runs, strict=True)
    return torch.cat([_attend_run(q, k, v, length, plan.plain_longest) for q, k, v, (_, length) in parts])


def _attend_run(q_THD: Tensor, k_THD: Tensor, v_THD: Tensor, length: int, plain_longest: int) -> Tensor:
    """Equation 3 on sequences of one length: torch's fused kernel, or its plain form where that is faster.

    On a CPU in bf16 two products and a softmax take a quarter to two thirds of the fused kernel's time, forward and
    backward (``benchmarks/attention.py``); in longer sequences the fused kernel's smaller memory counts for more.
    """
    q, k, v = (x.unflatten(0, (-1, length)).transpose(1, 2) for x in (q_THD, k_THD, v_THD))  # (n, H, L, D)
    if q.is_cuda or q.dtype != torch.bfloat16 or length > plain_longest:
        out = F.scaled_dot_product_attention(q, k, v)
    else:
        out = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(dim=-1) @ v
    return out.transpose(1, 2).flatten(0, 1)  # (T, H, D)
