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


def loud(samples: Samples, rate: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Of every tenth of a second, whether it is louder than :data:`SILENT_DECIBELS`, its mean taken off.

    What is left over at the end is judged by the last tenth of a second.

    Args:
        samples: as they are decoded.
        rate: samples per second.
    """
    width = min(len(samples), stretch(rate))
    if width == 0:
        return np.zeros(0, dtype=np.bool_)
    power = samples[: len(samples) // width * width].reshape(-1, width).var(axis=1, dtype=np.float64)
    if len(samples) % width:
        power = np.append(power, samples[-width:].var(dtype=np.float64))
    return power >= 10 ** (SILENT_DECIBELS / 10)


def stretch(rate: int) -> int:
    """A tenth of a second in samples."""
    return max(1, round(STRETCH_SECONDS * rate))
