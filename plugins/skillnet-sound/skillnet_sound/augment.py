"""Small random changes to a waveform, in training only."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

GAIN_DECIBELS = 6.0
SIGNAL_TO_NOISE_DECIBELS = (20.0, 50.0)


def augment(features: Float[Tensor, " samples"], rng: np.random.Generator) -> Float[Tensor, " samples"]:
    """Another loudness (by at most 6 dB) and a little white noise (20 to 50 dB below the signal).

    The length stays as it is, since masked units have one target a frame: so no change of speed.
    """
    gain = 10 ** (rng.uniform(-GAIN_DECIBELS, GAIN_DECIBELS) / 20)
    noise_level = 10 ** (-rng.uniform(*SIGNAL_TO_NOISE_DECIBELS) / 20) * float(features.square().mean().sqrt())
    noise = torch.from_numpy(rng.standard_normal(len(features), dtype=np.float32))
    return gain * (features + noise_level * noise)
