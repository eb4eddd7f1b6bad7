from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2FeatureEncoder

from skillnet_sound.config import SoundConfig
from skillnet_sound.convolution import WaveConvolution
from skillnet_sound.embedder import WaveEmbedder
from skillnet_sound.reader import SoundReader

LENGTHS = (400, 16_000, 719, 5_000, 8_801)


@pytest.fixture
def clips() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, generator=generator) for length in LENGTHS]


@pytest.fixture
def embedder(config: SoundConfig) -> WaveEmbedder:
    torch.manual_seed(2)
    return WaveEmbedder(config, hidden=24)


def wav2vec(convolution: WaveConvolution) -> Wav2Vec2FeatureEncoder:
    """transformers' feature encoder with the same weights."""
    width = convolution.config.channels
    theirs = Wav2Vec2FeatureEncoder(
        Wav2Vec2Config(feat_extract_norm="layer", conv_bias=True, conv_dim=(width,) * 7, feat_extract_activation="gelu")
    )
    for layer, ours in zip(theirs.conv_layers, convolution.layers, strict=True):
        layer.conv.weight.data, layer.conv.bias.data = ours.weight.data, ours.bias.data
        layer.layer_norm.weight.data, layer.layer_norm.bias.data = ours.norm.weight.data, ours.norm.bias.data
    return theirs


@pytest.mark.parametrize("channels", [16, 512])
def test_convolution_is_transformers(channels: int, clips: list[Tensor]) -> None:
    torch.manual_seed(3)
    convolution = WaveConvolution(SoundConfig(channels=channels))
    for layer in convolution.layers:
        torch.nn.init.normal_(layer.bias, std=0.1)
        torch.nn.init.normal_(layer.norm.weight, mean=1, std=0.1)
        torch.nn.init.normal_(layer.norm.bias, std=0.1)
    batch = SoundReader(convolution.config).collate(clips)
    with torch.no_grad():
        frames, counts = convolution(batch["samples"], batch["lengths"])
        theirs = wav2vec(convolution)
        for clip, ours in zip(clips, frames.split(counts.tolist()), strict=True):
            torch.testing.assert_close(ours, theirs(clip[None])[0].T, atol=1e-5, rtol=0)


def test_convolution_has_transformers_gradients(clips: list[Tensor]) -> None:
    convolution = WaveConvolution(SoundConfig(channels=16)).double()
    clip = clips[3].double()
    frames, _ = convolution(clip[None], torch.tensor([len(clip)]))
    theirs = wav2vec(convolution).double()
    theirs(clip[None]).square().sum().backward()
    frames.square().sum().backward()
    for layer, ours in zip(theirs.conv_layers, convolution.layers, strict=True):
        torch.testing.assert_close(ours.weight.grad, layer.conv.weight.grad, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ours.bias.grad, layer.conv.bias.grad, rtol=1e-9, atol=1e-9)


def test_other_kernels_and_strides(clips: list[Tensor]) -> None:
    """A kernel narrower than its stride, one several strides wide, and one of the stride's width."""
    config = SoundConfig(channels=8, kernels=(3, 7, 4), strides=(4, 2, 4), max_positions=20_000)
    convolution = WaveConvolution(config)
    frames, _ = convolution(clips[1][None], torch.tensor([len(clips[1])]))
    expected = clips[1][None, None]
    for layer in convolution.layers:
        expected = torch.nn.functional.conv1d(expected, layer.weight, layer.bias, layer.stride)
        expected = torch.nn.functional.gelu(torch.nn.functional.layer_norm(expected.transpose(1, 2), (8,))).transpose(
            1, 2
        )
    torch.testing.assert_close(frames, expected[0].T, atol=1e-5, rtol=0)


def test_an_item_does_not_depend_on_its_batch(embedder: WaveEmbedder, clips: list[Tensor]) -> None:
    reader = SoundReader(embedder.config)
    together, lengths = embedder(reader.collate(clips))
    for clip, ours in zip(clips, together.split(lengths.tolist()), strict=True):
        alone, length = embedder(reader.collate([clip]))
        assert length.tolist() == [reader.length(clip)] == [len(ours)]
        torch.testing.assert_close(ours, alone, atol=1e-5, rtol=0)


def test_what_lies_in_the_padding_does_not_matter(embedder: WaveEmbedder, clips: list[Tensor]) -> None:
    batch = SoundReader(embedder.config).collate(clips)
    clean, _ = embedder(batch)
    dirty = torch.nn.functional.pad(batch["samples"], (0, 1_000))
    for row, length in zip(dirty, LENGTHS, strict=True):
        row[length:] = 7.0
    torch.testing.assert_close(embedder({"samples": dirty, "lengths": batch["lengths"]})[0], clean, atol=1e-5, rtol=0)


def test_every_token_is_normed_and_cls_comes_first(embedder: WaveEmbedder, clips: list[Tensor]) -> None:
    tokens, lengths = embedder(SoundReader(embedder.config).collate(clips))
    torch.testing.assert_close(tokens.mean(dim=1), torch.zeros(len(tokens)), atol=1e-5, rtol=0)
    starts = lengths.cumsum(0) - lengths
    expected = embedder.norm(embedder.cls).expand(len(clips), -1)
    torch.testing.assert_close(tokens[starts], expected)


def test_cls_has_no_position_and_frames_count_from_zero(embedder: WaveEmbedder, clips: list[Tensor]) -> None:
    batch = SoundReader(embedder.config).collate(clips[1:2])
    before, _ = embedder(batch)
    with torch.no_grad():
        embedder.position[0] += torch.linspace(-1, 1, embedder.position.shape[1])
    changed = (embedder(batch)[0] != before).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [1]


def test_mask_hides_the_sound_of_exactly_the_marked_frames(embedder: WaveEmbedder, clips: list[Tensor]) -> None:
    batch = SoundReader(embedder.config).collate(clips)
    tokens, _ = embedder(batch)
    mask = torch.zeros(len(tokens), dtype=torch.bool)
    mask[[1, 5, 40]] = True
    hidden, _ = embedder({**batch, "mask": mask})
    assert (hidden != tokens).any(dim=1).nonzero().flatten().tolist() == [1, 5, 40]
    # Row 1 is the only frame of the first clip, row 5 the third of the second: only the position tells them apart.
    expected = embedder.norm(embedder.masked + embedder.position[[0, 2]])
    torch.testing.assert_close(hidden[[1, 5]], expected)


def test_runs_under_bf16_autocast(embedder: WaveEmbedder, clips: list[Tensor]) -> None:
    batch = SoundReader(embedder.config).collate(clips)
    exact, _ = embedder(batch)
    with torch.autocast("cpu", torch.bfloat16):
        tokens, _ = embedder(batch)
    assert torch.nn.functional.cosine_similarity(tokens.float(), exact, dim=1).min() > 0.99
    tokens.float().sum().backward()
