"""What ``[model.embedders.SKILL]`` may say for the toy skills, and what a toy of others can start of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt

from skillnet_cli.api import MappedWeight, SourceCheckpoint, UserError


class ToyConfig(BaseModel):
    """The longest item, and how many letters there are."""

    model_config = ConfigDict(extra="forbid")

    longest: PositiveInt = 64
    letters: PositiveInt = 8


def source_checkpoint(config: Mapping[str, Any], embedder: ToyConfig) -> SourceCheckpoint:
    """A table, the first layer's projections in three, and its output projection."""
    if config.get("model_type") != "toy":
        raise UserError(f"starts from a toy, not from a model of type '{config.get('model_type')}'")
    return SourceCheckpoint(
        weight_map=(
            MappedWeight("embedder.tokens.weight", ("table",)),
            MappedWeight("encoder.blocks.0.attention.weight", ("q", "k", "v")),
            MappedWeight("encoder.blocks.0.attention.out.weight", ("out",)),
        ),
        encoder={"hidden": config["hidden"], "norm": config.get("norm", "pre")},
        prefixes=("toy.", ""),
    )
