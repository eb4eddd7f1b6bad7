"""Times attention on this CPU: the plain form against torch's fused kernel, forward and backward, in bf16.

Run: python benchmarks/attention.py. Prints medians and their ratio; both forms run in turn in one process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from skillnet_cli.model.attention import AttentionPlan, attend

SHAPES = ((256, 17), (64, 33), (24, 64), (24, 128), (8, 500))
ROUNDS = 7


def fused(q_THD: Tensor, k_THD: Tensor, v_THD: Tensor, plan: AttentionPlan) -> Tensor:
    """torch's kernel on sequences of one length."""
    q, k, v = (x.unflatten(0, (-1, plan.longest)).transpose(1, 2) for x in (q_THD, k_THD, v_THD))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)


def seconds(attention: Callable[..., Tensor], qkv: Tensor, plan: AttentionPlan) -> float:
    """CPU seconds of one forward and backward pass."""
    begin = time.process_time()
    attention(*qkv.unbind(1), plan).float().sum().backward()
    return time.process_time() - begin


def main() -> None:
    """Print a line for each shape; one thread, so that CPU seconds count work and not waiting."""
    torch.set_num_threads(1)
    print(f"{'sequences x tokens':>20} {'ours ms':>9} {'fused ms':>9} {'ratio':>6}")
    for sequences, length in SHAPES:
        plan = AttentionPlan(torch.full((sequences,), length))
        qkv = torch.randn(sequences * length, 3, 4, 64, dtype=torch.bfloat16, requires_grad=True)
        pairs = [(seconds(attend, qkv, plan), seconds(fused, qkv, plan)) for _ in range(ROUNDS + 1)][1:]
        ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"{sequences:>11} x {length:<6} {1e3 * ours:>9.1f} {1e3 * theirs:>9.1f} {ratio:>6.2f}")


if __name__ == "__main__":
    main()
