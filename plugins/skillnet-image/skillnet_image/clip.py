"""CLIP's vision Transformer as the start of the skill image (Radford et al. 2021; paper, appendix)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from skillnet_cli.api import MappedWeight, SourceCheckpoint, UserError
from skillnet_cli.untrusted import validate
from skillnet_image.config import ImageConfig

if TYPE_CHECKING:
    from torch import Tensor


class _Source(BaseModel):
    """What is read of its ``config.json``, with the defaults of transformers' CLIPVisionConfig, within bounds."""

    model_config = ConfigDict(strict=True)

    num_hidden_layers: Annotated[int, Field(ge=1, le=512)] = 12
    hidden_size: PositiveInt = 768
    num_attention_heads: PositiveInt = 12
    intermediate_size: PositiveInt = 3072
    hidden_act: str = "quick_gelu"
    patch_size: PositiveInt = 32


def source_checkpoint(config: Mapping[str, Any], embedder: ImageConfig) -> SourceCheckpoint:
    """Map all tensors of a saved ``CLIPVisionModel``, or of the vision part of a ``CLIPModel``.

    Raises:
        UserError: it is not a CLIP, or its patches are of another size.
    """
    kind = config.get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise UserError(f"the skill image starts from a CLIP, not from a model of type '{kind}'")
    vision = validate(_Source, config.get("vision_config", {}) if kind == "clip" else dict(config))
    if vision.patch_size != embedder.patch:
        found = vision.patch_size
        raise UserError(f"its patches have {found} pixels, but model.embedders.image.patch = {embedder.patch}")
    encoder: dict[str, Any] = {
        "layers": vision.num_hidden_layers,
        "hidden": vision.hidden_size,
        "heads": vision.num_attention_heads,
        "ffn": vision.intermediate_size,
        "norm": "pre",
        "activation": vision.hidden_act,
    }
    return SourceCheckpoint(
        tuple(_weight_map(encoder["layers"])), encoder, prefixes=("vision_model.", "", "clip.vision_model.")
    )


def _weight_map(layers: int) -> Iterator[MappedWeight]:
    yield MappedWeight("embedder.cls", ("embeddings.class_embedding",))
    yield MappedWeight("embedder.projection", ("embeddings.patch_embedding.weight",))
    table = ("embeddings.position_embedding.weight",)
    yield MappedWeight("embedder.positions", table, fit="skillnet_image.clip:resize_positions")
    for kind in ("weight", "bias"):
        yield MappedWeight(f"embedder.norm.{kind}", (f"pre_layrnorm.{kind}",))
        yield MappedWeight(f"encoder.final_norm.{kind}", (f"post_layernorm.{kind}",))
        for number in range(layers):
            yield from _layer(f"encoder.blocks.{number}", f"encoder.layers.{number}", kind)


def _layer(ours: str, theirs: str, kind: str) -> Iterator[MappedWeight]:
    yield MappedWeight(f"{ours}.attention.{kind}", tuple(f"{theirs}.self_attn.{x}_proj.{kind}" for x in "qkv"))
    yield MappedWeight(f"{ours}.attention.out.{kind}", (f"{theirs}.self_attn.out_proj.{kind}",))
    yield MappedWeight(f"{ours}.attention_norm.{kind}", (f"{theirs}.layer_norm1.{kind}",))
    yield MappedWeight(f"{ours}.ffn_norm.{kind}", (f"{theirs}.layer_norm2.{kind}",))
    yield MappedWeight(f"{ours}.feed_forward.up.{kind}", (f"{theirs}.mlp.fc1.{kind}",))
    yield MappedWeight(f"{ours}.feed_forward.down.{kind}", (f"{theirs}.mlp.fc2.{kind}",))


def resize_positions(table: Tensor, wanted: tuple[int, ...]) -> Tensor:
    """Positions for another number of patches: the square of them resized bicubically, ``[CLS]`` as it is.

    Raises:
        UserError: the widths differ.
    """
    import torch
    from torch.nn import functional as F

    width, old, new = wanted[1], round((len(table) - 1) ** 0.5), round((wanted[0] - 1) ** 0.5)
    if table.shape[1] != width or old * old != len(table) - 1:
        raise UserError(f"its positions have shape {tuple(table.shape)}, but the model needs {wanted}")
    square = table[1:].float().T.reshape(1, width, old, old)
    resized = F.interpolate(square, size=(new, new), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([table[:1].float(), resized.flatten(2)[0].T])
