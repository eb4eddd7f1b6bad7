"""Reads clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from skillnet_cli.api import Source, Window
from skillnet_video.clips import squares, steady_frames
from skillnet_video.config import VideoConfig


class VideoReader:
    """Turns video files into a few square frames; it has no assets. Follows :class:`skillnet_cli.api.Reader`."""

    def __init__(self, config: VideoConfig, assets: Path | None = None) -> None:
        self.config = config

    def read(self, source: Source, rng: np.random.Generator | None = None) -> UInt8[Tensor, "frames 3 side side"]:
        """Frames of the first ``max_seconds``: drawn at random in training (``rng``), else evenly spaced.

        Raises:
            DamagedItem: it cannot be decoded, or is too large.
        """
        with closing(steady_frames(source, self.config.fps)) as frames:
            return self._chosen(squares(islice(frames, self.config.kept), self.config.resolution), rng)

    def split(self, source: Source) -> Iterator[Window]:
        """Windows of ``max_seconds``, the last one shorter."""
        with closing(steady_frames(source, self.config.fps)) as frames:
            start = 0.0
            while kept := squares(islice(frames, self.config.kept), self.config.resolution):
                end = start + len(kept) / self.config.fps
                yield Window(start, end, self._chosen(kept, None))
                start = end

    def _chosen(self, kept: Sequence[Callable[[], Tensor]], rng: np.random.Generator | None) -> Tensor:
        """The chosen frames' pixels, the last frame repeated up to whole tubes."""
        places = choose(len(kept), self.config.frames, rng)
        pixels = [kept[place]() for place in places]
        whole = self.config.grid[0] * self.config.tube[0]
        return torch.stack(pixels + pixels[-1:] * (whole - len(pixels)))

    def length(self, features: UInt8[Tensor, "frames 3 side side"]) -> int:
        """The number of tubes and [CLS]."""
        time, down, across = self.config.grid
        return 1 + time * down * across

    def collate(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """``frames``: uint8 (items, frames, 3, side, side); the embedder normalises, so that little travels."""
        return {"frames": torch.stack(list(features))}

    def save(self, folder: Path) -> None:
        """Nothing to write."""


def choose(kept: int, wanted: int, rng: np.random.Generator | None) -> list[int]:
    """The places, in order of time, of the frames that are seen; all of them if there are no more than ``wanted``.

    Args:
        kept: how many frames there are.
        wanted: how many are seen.
        rng: draws them in training; None spaces them evenly.
    """
    if kept <= wanted:
        return list(range(kept))
    if rng is not None:
        return sorted(rng.choice(kept, wanted, replace=False).tolist())
    return [(2 * place + 1) * kept // (2 * wanted) for place in range(wanted)]
