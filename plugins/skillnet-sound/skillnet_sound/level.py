"""The level of a recording: how waveforms become what the model hears, and what is silence."""

from __future__ import annotations

from typing import Any

import numpy as np

Samples = np.ndarray[Any, np.dtype[np.float32]]

EPSILON = 1e-7
"""wav2vec 2.0's, added to the variance: what is quieter than -70 dB of full scale stays quiet."""

SILENT_DECIBELS = -55.0
"""Of full scale. Speech reaches -15 to -40, a quiet room's noise in a 16-bit recording -60 to -90."""

STRETCH_SECONDS = 0.1


def normalise(samples: Samples) -> Samples:
    """Samples with zero mean and unit variance, as wav2vec 2.0 hears them, and in one polarity.

    Microphones and cables turn the sign of a waveform, which nobody hears: the sign is such that the third moment is
    not positive, which leaves most recordings of speech as they are.
    """
    centred = samples.astype(np.float64)
    centred -= centred.mean()
    centred /= np.sqrt(np.mean(np.square(centred)) + EPSILON)
    if np.sum(centred**3) > 0:
        centred = -centred
    return centred.astype(np.float32)


def is_silent(samples: Samples, rate: int) -> bool:
    """Whether nothing in it is louder than :data:`SILENT_DECIBELS`: no tenth of a second, its mean taken off.

    Args:
        samples: as they are decoded.
        rate: samples per second.
    """
    width = min(len(samples), max(1, round(STRETCH_SECONDS * rate)))
    if width == 0:
        return True
    stretches = samples[: len(samples) // width * width].reshape(-1, width)
    power = stretches.var(axis=1, dtype=np.float64)
    rest = samples[len(samples) - width :].var(dtype=np.float64)
    return bool(max(power.max(), rest) < 10 ** (SILENT_DECIBELS / 10))
