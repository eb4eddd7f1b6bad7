"""BERT as the start of the skill text (Devlin et al. 2018; paper §3.3, Text)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from skillnet_cli.api import MappedWeight, SourceCheckpoint, UserError
from skillnet_cli.untrusted import validate
from skillnet_text.config import TextConfig

if TYPE_CHECKING:
    from torch import Tensor


class _Source(BaseModel):
    """What is read of its ``config.json``, with the defaults of transformers' BertConfig, within bounds."""

    model_config = ConfigDict(strict=True)

    num_hidden_layers: Annotated[int, Field(ge=1, le=512)] = 12
    hidden_size: PositiveInt = 768
    num_attention_heads: PositiveInt = 12
    intermediate_size: PositiveInt = 3072
    hidden_act: str = "gelu"


def source_checkpoint(config: Mapping[str, Any], embedder: TextConfig) -> SourceCheckpoint:
    """Map the tensors of a saved ``BertModel``, with or without a head: all but its pooler and head.

    Raises:
        UserError: it is not a BERT, or its positions are not absolute.
    """
    kind = config.get("model_type")
    if kind != "bert":
        raise UserError(f"the skill text starts from a BERT, not from a model of type '{kind}'")
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise UserError(f"its positions are of type '{positions}', but the skill text needs absolute ones")
    facts = validate(_Source, dict(config))
    encoder: dict[str, Any] = {
        "layers": facts.num_hidden_layers,
        "hidden": facts.hidden_size,
        "heads": facts.num_attention_heads,
        "ffn": facts.intermediate_size,
        "norm": "post",
        "activation": facts.hidden_act,
    }
    return SourceCheckpoint(tuple(_weight_map(encoder["layers"])), encoder, prefixes=("bert.", ""))


def _weight_map(layers: int) -> Iterator[MappedWeight]:
    first_rows = "skillnet_text.bert:first_rows"
    yield MappedWeight("embedder.tokens.weight", ("embeddings.word_embeddings.weight",))
    yield MappedWeight("embedder.positions.weight", ("embeddings.position_embeddings.weight",), fit=first_rows)
    yield MappedWeight("embedder.segments.weight", ("embeddings.token_type_embeddings.weight",), fit=first_rows)
    for kind in ("weight", "bias"):
        yield MappedWeight(f"embedder.norm.{kind}", (f"embeddings.LayerNorm.{kind}",))
        for number in range(layers):
            yield from _layer(f"encoder.blocks.{number}", f"encoder.layer.{number}", kind)


def _layer(ours: str, theirs: str, kind: str) -> Iterator[MappedWeight]:
    qkv = tuple(f"{theirs}.attention.self.{name}.{kind}" for name in ("query", "key", "value"))
    yield MappedWeight(f"{ours}.attention.{kind}", qkv)
    yield MappedWeight(f"{ours}.attention.out.{kind}", (f"{theirs}.attention.output.dense.{kind}",))
    yield MappedWeight(f"{ours}.attention_norm.{kind}", (f"{theirs}.attention.output.LayerNorm.{kind}",))
    yield MappedWeight(f"{ours}.ffn_norm.{kind}", (f"{theirs}.output.LayerNorm.{kind}",))
    yield MappedWeight(f"{ours}.feed_forward.up.{kind}", (f"{theirs}.intermediate.dense.{kind}",))
    yield MappedWeight(f"{ours}.feed_forward.down.{kind}", (f"{theirs}.output.dense.{kind}",))


def first_rows(table: Tensor, wanted: tuple[int, ...]) -> Tensor:
    """The rows that a model with fewer positions needs. Raises UserError if they are too few or of another width."""
    if table.shape[1] != wanted[1] or len(table) < wanted[0]:
        raise UserError(f"a table of shape {tuple(table.shape)} is too small for {wanted}: lower max_length")
    return table[: wanted[0]]
