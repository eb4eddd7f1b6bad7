"""The text pathway, norms behind and gelu, against transformers' BertModel with padding and a mask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BertConfig, BertForMaskedLM, BertModel

from tests.reference import BERT_LIKE, SMALL, assert_same, reweigh, skillnet, start

VOCABULARY, POSITIONS = 90, 64
LENGTHS = [5, 64, 1, 17, 17, 40]


def bert(kind: type[BertModel] | type[BertForMaskedLM], scale: str) -> BertModel | BertForMaskedLM:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=SMALL["hidden"],
        num_hidden_layers=SMALL["layers"],
        num_attention_heads=SMALL["heads"],
        intermediate_size=SMALL["ffn"],
        max_position_embeddings=POSITIONS,
        attn_implementation="sdpa",
    )
    model = kind(config).eval()
    reweigh(model, scale)
    return model


def texts() -> tuple[list[Tensor], list[Tensor]]:
    """Ids and segments of ragged texts; the second half of each is another segment."""
    generator = torch.Generator().manual_seed(3)
    ids = [torch.randint(0, VOCABULARY, (length,), generator=generator) for length in LENGTHS]
    return ids, [(torch.arange(length) >= length / 2).long() for length in LENGTHS]


@pytest.mark.parametrize("scale", ["random", "trained"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_text_pathway_is_berts(scale: str, dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = bert(BertModel, scale)
    theirs.save_pretrained(tmp_path)
    ours = skillnet(SMALL | BERT_LIKE, text={"vocab_size": VOCABULARY, "max_length": POSITIONS})
    report = start(ours, text=tmp_path)
    assert report.newly_initialised == () and set(report.skills["text"].skipped) == {
        "pooler.dense.weight",
        "pooler.dense.bias",
    }
    ids, segments = texts()
    batch = {"ids": torch.cat(ids), "segments": torch.cat(segments), "lengths": torch.tensor(LENGTHS)}
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    with torch.no_grad():
        tokens = ours.to(dtype).tower(("text",), (batch,)).tokens
        padded = {"input_ids": pad_sequence(ids, True), "token_type_ids": pad_sequence(segments, True)}
        expected = theirs.to(dtype)(**padded, attention_mask=mask.long()).last_hidden_state
    assert_same(tokens, expected[mask])


def test_a_bert_with_a_head_starts_the_same_model(tmp_path: Path) -> None:
    theirs = bert(BertForMaskedLM, "random")
    theirs.save_pretrained(tmp_path)
    ours = skillnet(SMALL | BERT_LIKE, text={"vocab_size": VOCABULARY, "max_length": 20})
    report = start(ours, text=tmp_path).skills["text"]
    assert {name for name in report.skipped if not name.startswith("cls.")} == set()
    assert [each.tensor for each in report.loaded if each.resized] == ["embedders.text.positions.weight"]
    expected = theirs.bert.embeddings.position_embeddings.weight[:20]
    assert torch.equal(ours.embedders["text"].positions.weight, expected)
