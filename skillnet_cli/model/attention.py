"""Attention over packed sequences: no padding reaches any other part of the model.

Shapes: T tokens of all sequences together, H heads, D width of a head, n sequences of a bucket, L its longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

PLAIN_LONGEST = 512


@dataclass(frozen=True)
class Bucket:
    """Sequences of about the same length: their rows in the packed tokens, and which of them are real."""

    rows_nL: Int[Tensor, "n L"]
    real_nL: Bool[Tensor, "n L"] | None


class AttentionPlan:
    """Where the sequences lie in the packed tokens; made once for a forward pass, used by every layer."""

    def __init__(self, lengths: Int[Tensor, " items"]) -> None:
        """``lengths``: how many tokens each sequence has, in the order in which they are packed."""
        self.lengths = lengths

    @cached_property
    def starts(self) -> Int[Tensor, " boundaries"]:
        """The row of each sequence's first token, and the number of all tokens at the end."""
        return F.pad(self.lengths.cumsum(0), (1, 0))

    @cached_property
    def longest(self) -> int:
        """The length of the longest sequence."""
        return int(self.lengths.max())

    @cached_property
    def equal(self) -> bool:
        """Whether all sequences have one length."""
        return bool((self.lengths == self.lengths[0]).all())

    @cached_property
    def buckets(self) -> list[Bucket]:
        """The sequences by padded length. A sequence's bucket depends on its own length alone."""
        padded = padded_lengths(self.lengths)
        return [self._bucket(int(length), padded == length) for length in padded.unique()]

    @cached_property
    def order(self) -> Int[Tensor, " tokens"]:
        """For each packed token its place among the real tokens of all buckets, one bucket after another."""
        rows = [b.rows_nL.flatten() if b.real_nL is None else b.rows_nL[b.real_nL] for b in self.buckets]
        return torch.cat(rows).argsort()

    def _bucket(self, longest: int, chosen: Bool[Tensor, " items"]) -> Bucket:
        lengths, starts = self.lengths[chosen], self.starts[:-1][chosen]
        offsets = torch.arange(longest, device=lengths.device)
        real = offsets < lengths[:, None]
        rows = torch.where(real, starts[:, None] + offsets, starts[:, None])
        return Bucket(rows, None if bool(real.all()) else real)


def padded_lengths(lengths: Int[Tensor, " items"]) -> Int[Tensor, " items"]:
    """Round lengths up to multiples of 8, and of an eighth of the next lower power of two above 64."""
    step = (2 ** (lengths.clamp(min=64).double().log2().floor().long() - 3)).clamp(min=8)
    return (lengths + step - 1) // step * step


def attend(
    q_THD: Float[Tensor, "T H D"], k_THD: Float[Tensor, "T H D"], v_THD: Float[Tensor, "T H D"], plan: AttentionPlan
) -> Float[Tensor, "T H D"]:
    """Scaled dot-product attention (eq. 3) of every token to the tokens of its own sequence."""
    if q_THD.is_cuda and q_THD.dtype in (torch.bfloat16, torch.float16):
        from torch.nn.attention.varlen import varlen_attn

        starts = plan.starts.to(torch.int32)
        out = varlen_attn(q_THD, k_THD, v_THD, starts, starts, plan.longest, plan.longest)
        assert isinstance(out, Tensor), "a tuple comes only with return_aux"
        return out
    if plan.equal:
        return _attend_equal(q_THD, k_THD, v_THD, plan.longest)
    return torch.cat([_attend_bucket(q_THD, k_THD, v_THD, bucket) for bucket in plan.buckets])[plan.order]


def _attend_equal(q_THD: Tensor, k_THD: Tensor, v_THD: Tensor, length: int) -> Tensor:
    q, k, v = (x.unflatten(0, (-1, length)).transpose(1, 2) for x in (q_THD, k_THD, v_THD))  # (n, H, L, D)
    return _attend_padded(q, k, v, None).transpose(1, 2).flatten(0, 1)  # (T, H, D)


def _attend_bucket(q_THD: Tensor, k_THD: Tensor, v_THD: Tensor, bucket: Bucket) -> Tensor:
    q, k, v = (x[bucket.rows_nL].transpose(1, 2) for x in (q_THD, k_THD, v_THD))  # (n, H, L, D)
    mask = None if bucket.real_nL is None else bucket.real_nL[:, None, None, :]
    out = _attend_padded(q, k, v, mask).transpose(1, 2)  # (n, L, H, D)
    return out.flatten(0, 1) if bucket.real_nL is None else out[bucket.real_nL]


def _attend_padded(q_nHLD: Tensor, k_nHLD: Tensor, v_nHLD: Tensor, mask_n11L: Tensor | None) -> Tensor:
    """Equation 3 on a padded batch: torch's fused kernel, or its plain form where that is faster.

    On a CPU in bf16 two products and a softmax take a half to a sixth of the fused kernel's time, forward and
    backward (``benchmarks/attention.py``); beyond 512 tokens the fused kernel's smaller memory counts for more.
    """
    if q_nHLD.is_cuda or q_nHLD.dtype == torch.float32 or q_nHLD.shape[2] > PLAIN_LONGEST:
        return F.scaled_dot_product_attention(q_nHLD, k_nHLD, v_nHLD, attn_mask=mask_n11L)
    scores_nHLL = (q_nHLD * q_nHLD.shape[-1] ** -0.5) @ k_nHLD.transpose(-1, -2)
    if mask_n11L is not None:
        scores_nHLL = scores_nHLL.masked_fill(~mask_n11L, -torch.inf)
    return scores_nHLL.softmax(dim=-1) @ v_nHLD
