"""Waveforms to token vectors (paper §3.3, Sound)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from skillnet_cli.api import Batch
from skillnet_sound.config import SoundConfig
from skillnet_sound.convolution import WaveConvolution


class WaveEmbedder(nn.Module):
    """The convolution, a projection to ``hidden``, positions, ``[CLS]`` in front, and a norm.

    ``[CLS]`` has no position: the ``max_positions`` are the frames'. Frames that reach into an item's padding are
    dropped, so an item does not depend on the others of its batch.
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

    def longest(self) -> Batch:
        """One recording of ``max_seconds``."""
        samples = self.config.max_samples
        return {"samples": torch.zeros(1, samples), "lengths": torch.tensor([samples])}

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "tokens hidden"], Int[Tensor, " items"]]:
        """Embed ``samples`` (items, longest) of ``lengths`` (items,) samples.

        With ``mask`` (tokens,) the learnt vector stands in for the hidden frames, after the convolution and before the
        positions are added.
        """
        frames, counts = self.convolution(batch["samples"], batch["lengths"])
        place = torch.arange(1 + int(counts.max()), device=counts.device).expand(len(counts), -1)
        place = place[place <= counts[:, None]]  # (tokens,): 0 at each [CLS], then 1, 2, … at its frames
        tokens = self.cls.expand(len(place), -1)
        tokens = tokens.masked_scatter((place > 0)[:, None], self.projection(frames).to(tokens.dtype))
        if "mask" in batch:
            tokens = torch.where(batch["mask"][:, None], self.masked, tokens)
        positions = F.pad(self.position, (0, 0, 1, 0))[place]
        return self.norm(tokens + positions), 1 + counts
