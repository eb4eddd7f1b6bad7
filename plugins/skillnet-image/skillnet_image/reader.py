"""Reads pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from skillnet_cli.api import Source, Window
from skillnet_image.config import ImageConfig
from skillnet_image.pixels import pixels_of, square


class ImageReader:
    """Turns picture files into square RGB pixels; it has no assets. Follows :class:`skillnet_cli.api.Reader`."""

    def __init__(self, config: ImageConfig, assets: Path | None = None) -> None:
        self.config = config

    def read(
        self, source: Source | Image.Image, rng: np.random.Generator | None = None
    ) -> UInt8[Tensor, "3 side side"]:
        """Decode, resize and centre-crop one picture; nothing here is random. A picture of Pillow's is taken as it is.

        Raises:
            DamagedItem: it cannot be decoded, is a text, or is too large.
        """
        return square(pixels_of(source), self.config.resolution)

    def split(self, source: Source) -> Iterator[Window]:
        """A picture is its own only window."""
        yield Window(0.0, 0.0, self.read(source))

    def length(self, features: UInt8[Tensor, "3 side side"]) -> int:
        """The number of patches and [CLS]."""
        return 1 + self.config.side**2

    def collate(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """``pixels``: uint8 (items, 3, side, side); the embedder normalises, so that little travels."""
        return {"pixels": torch.stack(list(features))}

    def save(self, folder: Path) -> None:
        """Nothing to write."""
