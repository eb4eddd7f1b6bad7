"""Patches against transformers' CLIP with the same weights, and against torch's convolution."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings

from skillnet_image.config import CLIP_MEAN, CLIP_STD, ImageConfig
from skillnet_image.embedder import PatchEmbedder, normalise

HIDDEN = 24


def pictures(count: int, side: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def floats(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels normalised the long way round."""
    mean, std = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_STD)[:, None, None]
    return (pixels / 255 - mean) / std


@pytest.mark.parametrize("side, patch", [(32, 8), (48, 16), (224, 16)])
def test_is_clips_with_clips_weights(side: int, patch: int) -> None:
    torch.manual_seed(0)
    clip = CLIPVisionEmbeddings(CLIPVisionConfig(hidden_size=HIDDEN, image_size=side, patch_size=patch)).eval()
    norm = nn.LayerNorm(HIDDEN)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    ours = PatchEmbedder(ImageConfig(resolution=side, patch=patch), HIDDEN)
    with torch.no_grad():
        ours.cls.copy_(clip.class_embedding)
        ours.projection.copy_(clip.patch_embedding.weight)
        ours.positions.copy_(clip.position_embedding.weight)
        ours.norm.load_state_dict(norm.state_dict())
        pixels = pictures(3, side)
        expected = norm(clip(floats(pixels)))
        tokens, lengths = ours({"pixels": pixels})
    assert lengths.tolist() == [1 + (side // patch) ** 2] * 3
    torch.testing.assert_close(tokens, expected.flatten(0, 1), atol=1e-5, rtol=1e-5)


def test_the_parameters_are_clips_and_no_more() -> None:
    parameters = PatchEmbedder(ImageConfig(), 768).parameters()
    assert sum(parameter.numel() for parameter in parameters) == 768 + 3 * 16 * 16 * 768 + 197 * 768 + 2 * 768


def test_gradients_are_the_convolutions() -> None:
    embedder = PatchEmbedder(ImageConfig(resolution=32, patch=8), HIDDEN)
    pixels = pictures(2, 32)
    weights = torch.randn(2, 16, HIDDEN, generator=torch.Generator().manual_seed(1))
    (embedder.project(pixels) * weights).sum().backward()
    copy = embedder.projection.detach().clone().requires_grad_()
    convolved = nn.functional.conv2d(floats(pixels), copy, stride=8).flatten(2).transpose(1, 2)
    (convolved * weights).sum().backward()
    torch.testing.assert_close(embedder.projection.grad, copy.grad, atol=1e-4, rtol=1e-4)


def test_a_picture_does_not_depend_on_its_batch() -> None:
    embedder = PatchEmbedder(ImageConfig(resolution=32, patch=8), HIDDEN)
    pixels = pictures(5, 32)
    together, _ = embedder({"pixels": pixels})
    for place, alone in enumerate(pixels):
        tokens, _ = embedder({"pixels": alone[None]})
        torch.testing.assert_close(tokens, together[place * 17 : (place + 1) * 17], atol=2e-6, rtol=1e-5)


def test_normalising_survives_building_without_storage() -> None:
    with torch.device("meta"):
        embedder = PatchEmbedder(ImageConfig(resolution=32, patch=8), HIDDEN)
    loaded = PatchEmbedder(ImageConfig(resolution=32, patch=8), HIDDEN)
    embedder.load_state_dict(loaded.state_dict(), assign=True)
    batch = {"pixels": pictures(2, 32)}
    assert torch.equal(embedder(batch)[0], loaded(batch)[0])


def test_normalise_is_the_definition() -> None:
    pixels = pictures(2, 8).flatten(2)[:, None]  # (items, pieces, 3, pixels)
    expected = floats(pictures(2, 8)).flatten(2)[:, None]
    torch.testing.assert_close(normalise(pixels, CLIP_MEAN, CLIP_STD, torch.float32), expected, atol=1e-6, rtol=1e-5)


def test_runs_in_bfloat16() -> None:
    embedder = PatchEmbedder(ImageConfig(resolution=32, patch=8), HIDDEN)
    batch = {"pixels": pictures(2, 32)}
    exact, _ = embedder(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = embedder(batch)
    assert (rough.float() - exact).abs().max() < 0.1
