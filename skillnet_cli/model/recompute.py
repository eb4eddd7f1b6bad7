"""Activation checkpointing (Chen et al. 2016): a layer's activations are forgotten and computed again when needed."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, *inputs: Any) -> Any:
    """Call a layer so that of its activations only the inputs are kept; with the same dropout when it runs again."""
    return checkpoint(block, *inputs, use_reentrant=False)
