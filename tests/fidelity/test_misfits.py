"""Pretrained models that are not what the recipe wants, as the three plugins say it; positions of another size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from skillnet_cli.api import UserError
from skillnet_image.clip import resize_positions
from skillnet_image.clip import source_checkpoint as clip
from skillnet_image.config import ImageConfig
from skillnet_sound.config import SoundConfig
from skillnet_sound.wav2vec import source_checkpoint as wav2vec
from skillnet_text.bert import first_rows
from skillnet_text.bert import source_checkpoint as bert
from skillnet_text.config import TextConfig


def test_keys_left_out_mean_transformers_defaults() -> None:
    from transformers import BertConfig, CLIPVisionConfig, Wav2Vec2Config

    for read, facts, config in (
        (clip, CLIPVisionConfig(), ImageConfig(resolution=224, patch=32)),
        (bert, BertConfig(), TextConfig()),
        (wav2vec, Wav2Vec2Config(), SoundConfig(conv_norm="group", conv_bias=False)),
    ):
        assert read({"model_type": facts.model_type}, config) == read(facts.to_dict(), config)


@pytest.mark.parametrize(
    ("read", "facts", "config", "message"),
    [
        (clip, {"model_type": "vit"}, ImageConfig(), "starts from a CLIP, not from a model of type 'vit'"),
        (clip, {"model_type": "clip"}, ImageConfig(), "patches have 32 pixels, but model.embedders.image.patch = 16"),
        (bert, {"model_type": "roberta"}, TextConfig(), "starts from a BERT, not from a model of type 'roberta'"),
        (bert, {"model_type": "bert", "position_embedding_type": "relative_key"}, TextConfig(), "type 'relative_key'"),
        (wav2vec, {}, SoundConfig(), "starts from a wav2vec 2.0, not from a model of type 'None'"),
        (wav2vec, {"model_type": "wav2vec2"}, SoundConfig(), "sound.conv_norm = 'group', and the recipe has 'layer'"),
        (
            wav2vec,
            {"model_type": "wav2vec2", "conv_kernel": [10, 3], "conv_stride": [5, 2]},
            SoundConfig(),
            r"kernels = \[10, 3\], and the recipe has \[10, 3, 3, 3, 3, 2, 2\]",
        ),
        (
            wav2vec,
            {"model_type": "wav2vec2", "feat_extract_norm": "layer"},
            SoundConfig(),
            "conv_bias = false, and the recipe has true",
        ),
    ],
)
def test_what_does_not_fit_is_said(read: Any, facts: dict[str, Any], config: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(facts, config)


def test_positions_of_another_resolution_are_resized_bicubically() -> None:
    """As users of open_clip expect; the [CLS] position stays, and growing by an odd factor keeps the middles."""
    table = torch.randn(1 + 7 * 7, 5, generator=torch.Generator().manual_seed(0))
    grown = resize_positions(table, (1 + 21 * 21, 5))
    assert torch.equal(grown[0], table[0])
    torch.testing.assert_close(grown[1:].view(21, 21, 5)[1::3, 1::3], table[1:].view(7, 7, 5))
    shrunk = resize_positions(table, (1 + 3 * 3, 5))
    square = table[1:].T.view(1, 5, 7, 7)
    expected = F.interpolate(square, (3, 3), mode="bicubic", antialias=True)[0].flatten(1).T
    torch.testing.assert_close(shrunk[1:], expected)
    assert resize_positions(table, (1 + 7 * 7, 5)).allclose(table, atol=1e-6)


def test_positions_of_another_width_are_refused() -> None:
    with pytest.raises(UserError, match=r"shape \(50, 5\), but the model needs \(50, 6\)"):
        resize_positions(torch.zeros(50, 5), (50, 6))


def test_too_few_text_positions_are_refused() -> None:
    assert len(first_rows(torch.zeros(512, 4), (64, 4))) == 64
    with pytest.raises(UserError, match="lower max_length"):
        first_rows(torch.zeros(512, 4), (600, 4))
