"""Activation checkpointing (Chen et al. 2016): a layer's activations are forgotten and computed again when needed."""

from __future__ import annotations

from typing import Any

from torch import distributed, nn
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, *inputs: Any) -> Any:
    """Call a layer so that of its activations only the inputs are kept; with the same dropout when it runs again.

    Alone it stops as soon as it has what it needs. Over several ranks it runs to its end: stopped within a part that
    is a unit of communication, it would leave that unit waiting for the end.
    """
    return checkpoint(block, *inputs, use_reentrant=False, early_stop=not distributed.is_initialized())
