from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.functional import compute_deltas
from torchaudio.transforms import MFCC

from skillnet_cli.api import UserError
from skillnet_sound.frames import frame_count
from skillnet_sound.units import MfccFeatures, fit_centres, load_centres, nearest, save_centres


def by_torchaudio(clip: torch.Tensor) -> torch.Tensor:
    """The features of a single clip, without any batch."""
    mel = {"n_fft": 400, "hop_length": 160, "n_mels": 40, "center": False}
    plain = MFCC(16_000, n_mfcc=13, log_mels=True, melkwargs=mel)(clip)
    slope = compute_deltas(plain)
    return torch.cat([plain, slope, compute_deltas(slope)]).T[::2]


@settings(max_examples=15)
@given(st.lists(st.integers(400, 12_000), min_size=1, max_size=6))
def test_batches_are_torchaudio_on_single_clips(lengths: list[int]) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))
    clips = [torch.rand(length, generator=generator) - 0.5 for length in lengths]
    for clip, features in zip(clips, MfccFeatures()(clips), strict=True):
        assert features.shape == (frame_count(len(clip)), 39)
        torch.testing.assert_close(features, by_torchaudio(clip), atol=2e-3, rtol=1e-4)


def test_as_many_units_as_frames_at_many_lengths() -> None:
    lengths = [*range(400, 2_000, 53), 16_000, 16_001, 30_719, 30_720, 50_000]
    features = MfccFeatures()([torch.zeros(length) for length in lengths])
    assert [len(each) for each in features] == [frame_count(length) for length in lengths]


def test_units_are_the_nearest_centres() -> None:
    rng = np.random.default_rng(0)
    blobs = torch.from_numpy(rng.standard_normal((5, 39)).astype(np.float32)) * 20
    labels = rng.integers(5, size=2_000)
    points = blobs[labels] + torch.from_numpy(rng.standard_normal((2_000, 39)).astype(np.float32))
    centres = fit_centres(points, seed=0, clusters=5)
    units = nearest(points, centres)
    assert units == [int(((point - centres) ** 2).sum(dim=1).argmin()) for point in points]
    assert len({(label, unit) for label, unit in zip(labels.tolist(), units, strict=True)}) == 5


def test_the_same_seed_finds_the_same_centres() -> None:
    points = torch.randn(3_000, 39, generator=torch.Generator().manual_seed(0))
    first, again, other = (fit_centres(points, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (100, 39)


def test_too_few_frames() -> None:
    with pytest.raises(UserError, match="99 frames are too few for 100 clusters"):
        fit_centres(torch.zeros(99, 39), seed=0)


def test_centres_survive_saving(tmp_path: Path) -> None:
    centres = torch.randn(100, 39)
    save_centres(centres, tmp_path / "centres.safetensors")
    assert torch.equal(load_centres(tmp_path / "centres.safetensors"), centres)
    assert [path.name for path in tmp_path.iterdir()] == ["centres.safetensors"]
