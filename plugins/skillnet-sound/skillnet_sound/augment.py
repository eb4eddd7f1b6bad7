"""Small random changes to a waveform, in training only."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SIGNAL_TO_NOISE_DECIBELS = (20.0, 50.0)


def augment(features: Float[Tensor, " samples"], rng: np.random.Generator) -> Float[Tensor, " samples"]:
    """A little white noise, 20 to 50 dB below the signal.

    No change of loudness, since the reader brings every recording to one level, and no change of speed, since masked
    units have one target a frame.
    """
    noise_level = 10 ** (-rng.uniform(*SIGNAL_TO_NOISE_DECIBELS) / 20) * float(features.square().mean().sqrt())
    noise = torch.from_numpy(rng.standard_normal(len(features), dtype=np.float32))
    return features + noise_level * noise
