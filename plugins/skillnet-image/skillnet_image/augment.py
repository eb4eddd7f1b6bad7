"""Mild changes of training pictures. No mirroring: captions speak of left and right."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

TURN = math.radians(10)
ZOOM = (0.85, 1.1)
SHIFT = 0.1
"""Of half a side, in either direction."""
BRIGHTNESS = 0.15
CONTRAST = 0.15


def augment(
    features: UInt8[Tensor, "*frames 3 side side"], rng: np.random.Generator
) -> UInt8[Tensor, "*frames 3 side side"]:
    """Turn, zoom, shift and relight a picture, or all frames of a clip in the same way."""
    frames = features.reshape(-1, *features.shape[-3:]).float()
    moved = F.grid_sample(frames, _grid(rng, frames), padding_mode="border", align_corners=False)
    lit = _relight(moved, 1 + rng.uniform(-BRIGHTNESS, BRIGHTNESS), 1 + rng.uniform(-CONTRAST, CONTRAST))
    return lit.round().clamp(0, 255).to(torch.uint8).reshape(features.shape)


def _grid(rng: np.random.Generator, frames: Tensor) -> Float[Tensor, "frames height width 2"]:
    """Where each new pixel comes from: one random affine map for all frames."""
    angle, zoom = rng.uniform(-TURN, TURN), rng.uniform(*ZOOM)
    across, down = rng.uniform(-SHIFT, SHIFT, size=2)
    cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
    affine = torch.tensor([[cosine, -sine, across], [sine, cosine, down]], dtype=torch.float32)
    return F.affine_grid(affine.expand(len(frames), 2, 3), list(frames.shape), align_corners=False)


def _relight(frames: Float[Tensor, "frames 3 side side"], brightness: float, contrast: float) -> Tensor:
    grey = frames.mean()
    return ((frames - grey) * contrast + grey) * brightness
