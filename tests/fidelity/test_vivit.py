"""Tubes against transformers' ViViT tubelets, with the paper's factorised positions put in by hand."""

from __future__ import annotations

import pytest
import torch
from transformers import VivitConfig
from transformers.models.vivit.modeling_vivit import VivitTubeletEmbeddings

from skillnet_image.config import CLIP_MEAN, CLIP_STD
from skillnet_video.config import VideoConfig
from skillnet_video.embedder import TubeEmbedder
from tests.reference import assert_same, reweigh

HIDDEN = 40


@pytest.mark.parametrize("scale", ["random", "trained"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tube, frames, side", [((3, 16, 16), 6, 224), ((2, 8, 4), 8, 32)])
def test_tubes_are_vivits(scale: str, dtype: torch.dtype, tube: tuple[int, int, int], frames: int, side: int) -> None:
    ours = TubeEmbedder(VideoConfig(resolution=side, tube=tube, frames=frames), HIDDEN)
    reweigh(ours, scale)
    config = VivitConfig(image_size=side, num_frames=frames, tubelet_size=list(tube), hidden_size=HIDDEN)
    theirs = VivitTubeletEmbeddings(config)
    theirs.projection.weight.data, theirs.projection.bias.data = ours.projection.data, ours.bias.data
    ours, theirs = ours.to(dtype), theirs.to(dtype)
    pixels = torch.randint(0, 256, (2, frames, 3, side, side), dtype=torch.uint8)
    mean, std = (torch.tensor(values, dtype=dtype)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    with torch.no_grad():
        expected = theirs((pixels.to(dtype) / 255 - mean) / std)
        assert_same(ours.project(pixels), expected)
        time, down, across = frames // tube[0], side // tube[1], side // tube[2]
        for place in range(time * down * across):
            t, y, x = place // (down * across), place // across % down, place % across
            expected[:, place] += ours.times[t] + ours.rows[y] + ours.columns[x]
        expected = torch.cat([ours.cls.expand(2, 1, -1), expected], dim=1)
        tokens, lengths = ours({"frames": pixels})
    assert lengths.tolist() == [1 + time * down * across] * 2
    assert len(ours.times) + len(ours.rows) + len(ours.columns) == time + down + across
    assert_same(tokens, ours.norm(expected).flatten(0, 1))
