"""A network for each task, sharing nothing: ``routing = "separate"``, the paper's modality-specific models (§5.1)."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


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
