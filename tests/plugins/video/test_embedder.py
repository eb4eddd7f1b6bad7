"""Tubes against torch's 3-D convolution, positions against a plain loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skillnet_image.config import CLIP_MEAN, CLIP_STD
from skillnet_video.config import VideoConfig
from skillnet_video.embedder import TubeEmbedder

HIDDEN = 24


def clips(count: int, frames: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, frames, 3, side, side), generator=generator, dtype=torch.uint8)


def floats(frames: torch.Tensor) -> torch.Tensor:
    """Frames normalised the long way round, channels before frames as Conv3d takes them."""
    mean, std = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_STD)[:, None, None]
    return ((frames / 255 - mean) / std).transpose(1, 2)


def seeded(config: VideoConfig) -> TubeEmbedder:
    torch.manual_seed(0)
    embedder = TubeEmbedder(config, HIDDEN)
    nn.init.normal_(embedder.bias)
    nn.init.normal_(embedder.norm.weight)
    return embedder


@pytest.mark.parametrize("tube, frames, side", [((3, 8, 8), 6, 32), ((2, 16, 8), 5, 32), ((3, 16, 16), 6, 224)])
def test_is_a_convolution_with_factorised_positions(tube: tuple[int, int, int], frames: int, side: int) -> None:
    embedder = seeded(VideoConfig(resolution=side, tube=tube, frames=frames))
    time, down, across = embedder.config.grid
    padded = time * tube[0]
    convolution = nn.Conv3d(3, HIDDEN, tube, stride=tube)
    with torch.no_grad():
        convolution.weight.copy_(embedder.projection)
        convolution.bias.copy_(embedder.bias)
        batch = clips(2, padded, side)
        convolved = convolution(floats(batch))
        tokens, lengths = embedder({"frames": batch})
        tokens = tokens.unflatten(0, (2, -1))
        torch.testing.assert_close(tokens[:, 0], embedder.norm(embedder.cls).expand(2, -1))
        place = 1
        for t in range(time):
            for y in range(down):
                for x in range(across):
                    here = convolved[:, :, t, y, x] + embedder.times[t] + embedder.rows[y] + embedder.columns[x]
                    torch.testing.assert_close(tokens[:, place], embedder.norm(here), atol=1e-5, rtol=1e-5)
                    place += 1
    assert lengths.tolist() == [place, place]
    assert convolved.shape[2:] == (time, down, across)


def test_positions_are_few() -> None:
    embedder = TubeEmbedder(VideoConfig(), 768)
    positions = embedder.times.numel() + embedder.rows.numel() + embedder.columns.numel()
    assert positions == (2 + 14 + 14) * 768
    assert embedder.projection.numel() == 3 * 3 * 16 * 16 * 768


def test_a_clip_does_not_depend_on_its_batch() -> None:
    embedder = seeded(VideoConfig(resolution=32, tube=(3, 8, 8)))
    batch = clips(4, 6, 32)
    together, _ = embedder({"frames": batch})
    for place, alone in enumerate(batch):
        tokens, _ = embedder({"frames": alone[None]})
        torch.testing.assert_close(tokens, together[place * 33 : (place + 1) * 33], atol=2e-6, rtol=1e-5)


def test_time_and_place_matter() -> None:
    embedder = seeded(VideoConfig(resolution=32, tube=(3, 8, 8)))
    batch = clips(1, 6, 32)
    forwards, _ = embedder({"frames": batch})
    for turned in (batch.flip(1), batch.flip(3), batch.flip(4)):
        assert not torch.allclose(forwards, embedder({"frames": turned})[0], atol=1e-2)


def test_every_parameter_learns() -> None:
    embedder = seeded(VideoConfig(resolution=32, tube=(3, 8, 8)))
    tokens, _ = embedder({"frames": clips(2, 6, 32)})
    weights = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
    (tokens * weights).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in embedder.parameters())


def test_runs_in_bfloat16() -> None:
    embedder = seeded(VideoConfig(resolution=32, tube=(3, 8, 8)))
    batch = {"frames": clips(2, 6, 32)}
    exact, _ = embedder(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = embedder(batch)
    assert (rough.float() - exact).abs().max() < 0.1
