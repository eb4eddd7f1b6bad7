"""The convolutions of sound against transformers' Wav2Vec2FeatureEncoder, clip by clip, in both kinds of norm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2Model

from skillnet_sound.reader import SoundReader
from tests.reference import CLIP_LIKE, SMALL, assert_same, reweigh, skillnet, start

LENGTHS = (400, 16_000, 719, 8_801, 5_000)


def wav2vec(norm: str, bias: bool, scale: str, width: int) -> Wav2Vec2Model:
    config = Wav2Vec2Config(
        feat_extract_norm=norm,
        conv_bias=bias,
        conv_dim=(width,) * 7,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    model = Wav2Vec2Model(config).eval()
    reweigh(model.feature_extractor, scale)
    return model


def clips(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.3 * torch.randn(length, generator=generator, dtype=torch.float64).to(dtype) for length in LENGTHS]


@pytest.mark.parametrize("norm, bias", [("layer", True), ("layer", False), ("group", False), ("group", True)])
@pytest.mark.parametrize("scale, width", [("random", 24), ("trained", 24), ("trained", 512)])
def test_convolutions_are_wav2vecs(norm: str, bias: bool, scale: str, width: int, tmp_path: Path) -> None:
    theirs = wav2vec(norm, bias, scale, width)
    theirs.save_pretrained(tmp_path)
    ours = skillnet(SMALL | CLIP_LIKE, sound={"channels": width, "conv_norm": norm, "conv_bias": bias})
    report = start(ours, sound=tmp_path)
    convolution = ours.embedders["sound"].convolution
    assert not [name for name in report.newly_initialised if ".convolution." in name]
    assert not [name for name in report.skills["sound"].skipped if name.startswith("feature_extractor")]
    for dtype in (torch.float32, torch.float64) if width < 100 else (torch.float32,):
        batch = SoundReader(convolution.config).collate(clips(dtype))
        with torch.no_grad():
            frames, counts = convolution.to(dtype)(batch["samples"], batch["lengths"])
            for clip, own in zip(clips(dtype), frames.split(counts.tolist()), strict=True):
                assert_same(own, theirs.feature_extractor.to(dtype)(clip[None])[0].T)


def test_the_transformer_of_wav2vec_is_left_alone(tmp_path: Path) -> None:
    wav2vec("layer", True, "random", 24).save_pretrained(tmp_path)
    ours = skillnet(SMALL | CLIP_LIKE, sound={"channels": 24})
    encoder = {name: tensor.clone() for name, tensor in ours.encoder.state_dict().items()}
    report = start(ours, sound=tmp_path)
    assert all(torch.equal(tensor, encoder[name]) for name, tensor in ours.encoder.state_dict().items())
    assert "encoder.layers.0.attention.q_proj.weight" in report.skills["sound"].skipped
