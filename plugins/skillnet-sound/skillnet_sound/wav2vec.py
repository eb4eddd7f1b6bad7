"""The convolutions of wav2vec 2.0 as the start of the skill sound (Baevski et al. 2020; paper §3.3, Sound)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from skillnet_cli.api import MappedWeight, SourceCheckpoint, UserError
from skillnet_cli.untrusted import validate
from skillnet_sound.config import SoundConfig
from skillnet_sound.frames import KERNELS, STRIDES

_Numbers = Annotated[list[int], Field(max_length=100)]


class _Source(BaseModel):
    """What is read of its ``config.json``, with the defaults of transformers' Wav2Vec2Config."""

    model_config = ConfigDict(strict=True)

    conv_kernel: _Numbers = list(KERNELS)
    conv_stride: _Numbers = list(STRIDES)
    conv_dim: _Numbers | None = None
    feat_extract_norm: str = "group"
    conv_bias: bool = False


def source_checkpoint(config: Mapping[str, Any], embedder: SoundConfig) -> SourceCheckpoint:
    """Map the convolutions of a saved ``Wav2Vec2Model``, with or without a head; its Transformer is not used.

    Raises:
        UserError: it is not a wav2vec 2.0, or its convolutions are not those of ``[model.embedders.sound]``.
    """
    kind = config.get("model_type")
    if kind != "wav2vec2":
        raise UserError(f"the skill sound starts from a wav2vec 2.0, not from a model of type '{kind}'")
    facts = validate(_Source, dict(config))
    theirs = {
        "kernels": tuple(facts.conv_kernel),
        "strides": tuple(facts.conv_stride),
        "channels": tuple(facts.conv_dim or [512] * len(facts.conv_kernel)),
        "conv_norm": facts.feat_extract_norm,
        "conv_bias": facts.conv_bias,
    }
    ours = {key: getattr(embedder, key) for key in theirs} | {"channels": (embedder.channels,) * len(embedder.kernels)}
    for key, wanted in theirs.items():
        if ours[key] != wanted:
            raise UserError(
                f"needs model.embedders.sound.{key} = {_in_toml(wanted)}, and the recipe has {_in_toml(ours[key])}"
            )
    return SourceCheckpoint(tuple(_weight_map(embedder)), prefixes=("wav2vec2.", ""))


def _in_toml(value: Any) -> str:
    """A value in the syntax of TOML."""
    return (
        str(list(value))
        if isinstance(value, tuple)
        else repr(value).lower()
        if isinstance(value, bool)
        else repr(value)
    )


def _weight_map(embedder: SoundConfig) -> Iterator[MappedWeight]:
    for number in range(len(embedder.kernels)):
        ours, theirs = f"embedder.convolution.layers.{number}", f"feature_extractor.conv_layers.{number}"
        yield MappedWeight(f"{ours}.weight", (f"{theirs}.conv.weight",))
        if embedder.conv_bias:
            yield MappedWeight(f"{ours}.bias", (f"{theirs}.conv.bias",))
        if embedder.conv_norm == "layer" or number == 0:
            yield from (
                MappedWeight(f"{ours}.norm.{kind}", (f"{theirs}.layer_norm.{kind}",)) for kind in ("weight", "bias")
            )
