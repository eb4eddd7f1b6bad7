"""How many frames the convolution makes of a waveform; everything that counts frames asks here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

SAMPLE_RATE = 16_000
KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
"""Paper §3.3: a frame sees 400 samples (25 ms), and the next one begins 320 samples (20 ms) later."""

Count = TypeVar("Count")


def frame_count(samples: Count, kernels: Sequence[int] = KERNELS, strides: Sequence[int] = STRIDES) -> Count:
    """Frames of a waveform of ``samples`` samples, at most 0 where it is too short for one.

    Args:
        samples: an int, or an integer array or tensor of many lengths at once.
        kernels: the width of each convolution.
        strides: the stride of each convolution.
    """
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1  # type: ignore[operator, assignment]
    return samples


def shortest(kernels: Sequence[int] = KERNELS, strides: Sequence[int] = STRIDES) -> int:
    """The fewest samples that make one frame: 400 with the paper's convolutions."""
    samples = 1
    for kernel, stride in reversed(list(zip(kernels, strides, strict=True))):
        samples = (samples - 1) * stride + kernel
    return samples
