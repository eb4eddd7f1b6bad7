from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skillnet_sound.frames import KERNELS, STRIDES, frame_count, shortest
from skillnet_sound.units import HOP, WINDOW


def convolved(samples: int, kernels: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Frames of PyTorch's own convolutions: run on no memory, only their shapes."""
    layers = nn.Sequential(*(nn.Conv1d(1, 1, kernel, stride) for kernel, stride in zip(kernels, strides, strict=True)))
    return layers.to("meta")(torch.empty(1, samples, device="meta")).shape[1]


def test_frame_count_is_the_convolutions_at_every_length() -> None:
    """One long convolution has as many frames of shorter waveforms as lie wholly within them."""
    longest = 50_000
    # Which sample a frame sees last: the largest position, through max-pools with the convolutions' geometry.
    positions = torch.arange(longest, dtype=torch.float64)[None]
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        positions = nn.functional.max_pool1d(positions, kernel, stride)
    ends = positions[0].numpy()
    lengths = np.arange(400, longest + 1)
    np.testing.assert_array_equal(frame_count(lengths), np.searchsorted(ends, lengths, side="left"))


@pytest.mark.parametrize("samples", [400, 719, 720, 721, 16_000, 49_999, 320_000])
def test_frame_count_is_conv1ds(samples: int) -> None:
    assert frame_count(samples) == convolved(samples, KERNELS, STRIDES)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), min_size=1, max_size=5), st.integers(0, 3_000))
def test_any_convolution_begins_at_its_shortest(layers: list[tuple[int, int]], more: int) -> None:
    kernels, strides = zip(*layers, strict=True)
    least = shortest(kernels, strides)
    assert frame_count(least - 1, kernels, strides) <= 0 < frame_count(least, kernels, strides)
    assert frame_count(least + more, kernels, strides) == convolved(least + more, kernels, strides)


def test_every_second_mfcc_frame_is_a_frame_of_the_convolution() -> None:
    lengths = np.arange(400, 50_001)
    mfcc = 1 + (lengths - WINDOW) // HOP
    np.testing.assert_array_equal(-(-mfcc // 2), frame_count(lengths))


def test_twenty_seconds_fit_the_papers_positions() -> None:
    assert frame_count(20 * 16_000) == 999
