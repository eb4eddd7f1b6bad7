"""From windows of readings to packed token vectors."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from skillnet_cli.api import Batch
from skillnet_series.reader import SeriesConfig


class SeriesEmbedder(nn.Module):
    """A projection of each window, a learnt position, a ``[CLS]`` in front of every item, a norm."""

    def __init__(self, config: SeriesConfig, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(config.window, hidden)
        self.positions = nn.Parameter(0.02 * torch.randn(config.longest, hidden))
        self.cls = nn.Parameter(0.02 * torch.randn(1, hidden))
        self.norm = nn.LayerNorm(hidden)

    def longest(self) -> Batch:
        """One item of as many windows as there are positions, for `skillnet inspect` to count FLOPs of."""
        longest, window = len(self.positions), self.project.in_features
        return {"windows": torch.zeros(longest, window), "lengths": torch.tensor([longest])}

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "tokens hidden"], Int[Tensor, " items"]]:
        """Embed a batch: ``[CLS]`` and windows of the first item, ``[CLS]`` and windows of the second, …"""
        lengths = batch["lengths"]
        items = torch.split(self.project(batch["windows"]), lengths.tolist())
        parts = [part for item in items for part in (self.cls, item + self.positions[: len(item)])]
        return self.norm(torch.cat(parts)), lengths + 1
