"""The image pathway against transformers' CLIPVisionModel, its weights read from the folder that it saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from skillnet_cli.model.skillnet import SkillNet
from skillnet_image.config import CLIP_MEAN, CLIP_STD
from tests.reference import CLIP_LIKE, SMALL, assert_same, reweigh, skillnet, start

PAPER = {"layers": 12, "hidden": 768, "heads": 12, "ffn": 3072, "dropout": 0.0}


def clip(sizes: dict[str, Any], side: int, patch: int, scale: str) -> CLIPVisionModel:
    config = CLIPVisionConfig(
        hidden_size=sizes["hidden"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        intermediate_size=sizes["ffn"],
        image_size=side,
        patch_size=patch,
        attn_implementation="sdpa",  # the "eager" one has its softmax in float32 whatever it is given
    )
    model = CLIPVisionModel(config).eval()
    reweigh(model, scale)
    return model


def pictures(count: int, side: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def floats(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    mean, std = (torch.tensor(values, dtype=dtype)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return (pixels.to(dtype) / 255 - mean) / std


@torch.no_grad()
def both_states(model: SkillNet, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Our tokens before the final norm, and the [CLS] after it: the norm that CLIP puts on its [CLS] alone."""
    before: list[Tensor] = []
    hook = model.encoder.final_norm.register_forward_pre_hook(lambda module, inputs: before.append(inputs[0]))
    encoded = model.tower(("image",), ({"pixels": pixels},))
    hook.remove()
    return before[0].unflatten(0, (len(pixels), -1)), encoded.cls


def compare(ours: SkillNet, theirs: CLIPVisionModel, pixels: Tensor) -> list[float]:
    differences = []
    for dtype in (torch.float32, torch.float64):
        ours, theirs = ours.to(dtype), theirs.to(dtype)
        tokens, cls = both_states(ours, pixels)
        with torch.no_grad():
            expected = theirs(pixel_values=floats(pixels, dtype))
        differences += [assert_same(tokens, expected.last_hidden_state), assert_same(cls, expected.pooler_output)]
    return differences


@pytest.mark.parametrize("scale", ["random", "trained"])
@pytest.mark.parametrize("side, patch", [(32, 8), (48, 16)])
def test_image_pathway_is_clips(scale: str, side: int, patch: int, tmp_path: Path) -> None:
    theirs = clip(SMALL, side, patch, scale)
    theirs.save_pretrained(tmp_path)
    ours = skillnet(SMALL | CLIP_LIKE, image={"resolution": side, "patch": patch})
    report = start(ours, image=tmp_path)
    assert report.newly_initialised == () and report.skills["image"].skipped == {}
    compare(ours, theirs, pictures(3, side))


def test_vit_b_16_is_clips(tmp_path: Path) -> None:
    theirs = clip(PAPER, 224, 16, "trained")
    theirs.save_pretrained(tmp_path, max_shard_size="200MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = skillnet(PAPER | CLIP_LIKE, image={})
    assert start(ours, image=tmp_path).newly_initialised == ()
    compare(ours, theirs, pictures(1, 224))
