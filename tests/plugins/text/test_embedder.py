"""Token embeddings against transformers' BERT, and their independence of batch mates."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEmbeddings

from skillnet_cli.api import UserError
from skillnet_text.config import TextConfig
from skillnet_text.embedder import TokenEmbedder, positions

VOCABULARY, HIDDEN, LONGEST = 50, 16, 20


def packed(items: list[list[int]]) -> dict[str, torch.Tensor]:
    segments = [[int(place > 2) for place in range(len(ids))] for ids in items]
    return {
        "ids": torch.tensor([number for ids in items for number in ids]),
        "lengths": torch.tensor([len(ids) for ids in items]),
        "segments": torch.tensor([number for row in segments for number in row]),
    }


@pytest.fixture
def embedder() -> TokenEmbedder:
    torch.manual_seed(5)
    embedder = TokenEmbedder(TextConfig(vocab_size=VOCABULARY, max_length=LONGEST), HIDDEN)
    torch.nn.init.normal_(embedder.norm.weight)
    torch.nn.init.normal_(embedder.norm.bias)
    return embedder


def test_embeddings_equal_those_of_bert_with_the_same_weights(embedder: TokenEmbedder) -> None:
    theirs = BertEmbeddings(
        BertConfig(vocab_size=VOCABULARY, hidden_size=HIDDEN, max_position_embeddings=LONGEST)
    ).eval()
    state = embedder.state_dict()
    theirs.load_state_dict(
        {
            "word_embeddings.weight": state["tokens.weight"],
            "position_embeddings.weight": state["positions.weight"],
            "token_type_embeddings.weight": state["segments.weight"],
            "LayerNorm.weight": state["norm.weight"],
            "LayerNorm.bias": state["norm.bias"],
        }
    )
    items = [[2, 7, 9, 49], [2, 3], list(range(20))]
    tokens, lengths = embedder(packed(items))
    assert lengths.tolist() == [4, 2, 20]
    for ids, ours in zip(items, tokens.split(lengths.tolist()), strict=True):
        segments = torch.tensor([[int(place > 2) for place in range(len(ids))]])
        expected = theirs(input_ids=torch.tensor([ids]), token_type_ids=segments)[0]
        assert (ours - expected).abs().max() <= 1e-6


def test_an_items_tokens_do_not_depend_on_its_batch_mates(embedder: TokenEmbedder) -> None:
    item = [2, 11, 12, 13, 14]
    alone, _ = embedder(packed([item]))
    together, lengths = embedder(packed([[2, 3], item, [2] * 20]))
    assert torch.equal(together.split(lengths.tolist())[1], alone)


def test_positions_start_anew_with_every_item() -> None:
    assert positions(torch.tensor([3, 1, 2]), total=6).tolist() == [0, 1, 2, 0, 0, 1]


def test_token_table_is_the_parameter_itself(embedder: TokenEmbedder) -> None:
    assert embedder.token_table is embedder.tokens.weight
    assert isinstance(embedder.token_table, torch.nn.Parameter)
    assert embedder.token_table.std().item() == pytest.approx(0.02, rel=0.2)


def test_a_configuration_without_its_vocabulary_size_is_refused() -> None:
    with pytest.raises(UserError, match="vocab_size is not known"):
        TokenEmbedder(TextConfig(), HIDDEN)
