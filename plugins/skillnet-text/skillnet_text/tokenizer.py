"""How a text is cut into words and pieces."""

from __future__ import annotations

from collections.abc import Mapping

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from skillnet_text.vocabulary import UNK


def text_tokenizer(ids: Mapping[str, int], lowercase: bool) -> Tokenizer:
    """BERT's word-piece tokenizer over ``ids``; special tokens written out in a text are ordinary text to it."""
    tokenizer = Tokenizer(models.WordPiece(dict(ids), unk_token=UNK))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
