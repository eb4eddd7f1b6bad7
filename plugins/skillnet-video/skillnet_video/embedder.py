"""Tubes to vectors (paper §3.3, Video, after ViViT).

Shapes: B clips, T × H × W tubes of each, C = 3 channels, t frames of h × w pixels in a tube, D hidden.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from skillnet_image.embedder import init_parameter, normalise
from skillnet_video.config import VideoConfig


class TubeEmbedder(nn.Module):
    """Tubes projected by a 3-D convolution, [CLS], learnt positions of time, height and width added up, norm."""

    decayed = ("projection",)

    def __init__(self, config: VideoConfig, hidden: int) -> None:
        super().__init__()
        self.config = config
        time, down, across = config.grid
        self.cls = init_parameter(hidden)
        self.projection = init_parameter(hidden, 3, *config.tube)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.times = init_parameter(time, hidden)
        self.rows = init_parameter(down, hidden)
        self.columns = init_parameter(across, hidden)
        self.norm = nn.LayerNorm(hidden)

    def longest(self) -> dict[str, Tensor]:
        """One clip; all are of one size."""
        frames, side = self.config.grid[0] * self.config.tube[0], self.config.resolution
        return {"frames": torch.zeros(1, frames, 3, side, side, dtype=torch.uint8)}

    def forward(self, batch: dict[str, Tensor]) -> tuple[Float[Tensor, "tokens hidden"], Int[Tensor, " items"]]:
        """``batch["frames"]``: uint8 (B, frames, 3, side, side) -> packed tokens (B·(1+THW), D), lengths (B,)."""
        tubes = self.project(batch["frames"]) + self.positions()
        cls = self.cls.to(tubes.dtype).expand(len(tubes), 1, -1)
        tokens = self.norm(torch.cat([cls, tubes], dim=1))
        lengths = torch.full((len(tokens),), tokens.shape[1], device=tokens.device)
        return tokens.flatten(0, 1), lengths

    def positions(self) -> Float[Tensor, "tubes hidden"]:
        """One vector for each place in time, plus one for each row, plus one for each column (THW, D)."""
        grid = self.times[:, None, None] + self.rows[None, :, None] + self.columns[None, None, :]
        return grid.flatten(0, 2)

    def project(self, frames: UInt8[Tensor, "items frames 3 side side"]) -> Float[Tensor, "items tubes hidden"]:
        """The convolution, as one matrix product over cut-out tubes: 2.5 times as fast on a CPU in bfloat16."""
        (time, down, across), (t, h, w) = self.config.grid, self.config.tube
        cut = frames.unflatten(-1, (across, w)).unflatten(-3, (down, h)).unflatten(1, (time, t))  # B T t C H h W w
        cut = cut.permute(0, 1, 4, 6, 3, 2, 5, 7).reshape(len(frames), time * down * across, 3, t * h * w)
        normal = normalise(cut, self.config.mean, self.config.std, self.projection.dtype).flatten(2)  # B THW Cthw
        return F.linear(normal, self.projection.flatten(1), self.bias)
