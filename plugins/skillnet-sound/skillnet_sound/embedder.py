"""Waveforms to token vectors (paper §3.3, Sound)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from skillnet_cli.api import Batch
from skillnet_sound.config import SoundConfig
from skillnet_sound.convolution import WaveConvolution
from skillnet_sound.frames import frame_count


class WaveEmbedder(nn.Module):
    """The convolution, a projection to ``hidden``, positions, ``[CLS]`` in front, and a norm.

    ``[CLS]`` has no position: the ``max_positions`` are the frames'. Frames that reach into an item's padding are
    dropped, so an item does not depend on its batch mates.
    """

    def __init__(self, config: SoundConfig, hidden: int) -> None:
        super().__init__()
        self.config = config
        self.convolution = WaveConvolution(config)
        # The paper's "1D convolutional network to 768 dimensions": of width 1, which is a linear map of each frame.
        self.projection = nn.Linear(config.channels, hidden)
        self.position = nn.Parameter(torch.empty(config.max_positions, hidden))
        self.cls = nn.Parameter(torch.empty(hidden))
        self.masked = nn.Parameter(torch.empty(hidden))
        self.norm = nn.LayerNorm(hidden)
        for parameter in (self.projection.weight, self.position, self.cls, self.masked):
            nn.init.trunc_normal_(parameter, std=0.02)
        nn.init.zeros_(self.projection.bias)

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "tokens hidden"], Int[Tensor, " items"]]:
        """Embed ``samples`` (items, longest) of ``lengths`` (items,) samples.

        With ``mask`` (tokens,) the learnt vector stands in for the hidden frames, after the convolution and before the
        positions are added.
        """
        frames = self.projection(self.convolution(batch["samples"]))
        lengths = 1 + frame_count(batch["lengths"], self.config.kernels, self.config.strides)
        tokens = torch.cat([self.cls.expand(len(frames), 1, -1), frames], dim=1)
        real = torch.arange(tokens.shape[1], device=lengths.device) < lengths[:, None]
        packed = tokens[real]
        if "mask" in batch:
            packed = torch.where(batch["mask"][:, None], self.masked, packed)
        return self.norm(packed + self._positions(real)), lengths

    def _positions(self, real: Tensor) -> Tensor:
        """The position vectors (tokens, hidden) of the packed tokens; zeros for every ``[CLS]``."""
        table = F.pad(self.position, (0, 0, 1, 0))
        return table[real.nonzero()[:, 1]]
