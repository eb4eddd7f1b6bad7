"""How a text is cut into words and pieces."""

from __future__ import annotations

from collections.abc import Mapping

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from skillnet_text.vocabulary import UNK


def text_tokenizer(ids: Mapping[str, int], lowercase: bool, nfkc: bool = True) -> Tokenizer:
    """BERT's word-piece tokenizer over ``ids``; special tokens written out in a text are ordinary text to it.

    Args:
        ids: piece -> id.
        lowercase: fold case and accents.
        nfkc: fold compatible characters first, which BERT does not: ``Ａ`` is ``A``, ``，`` is ``,``, ``①`` is ``1``.
    """
    tokenizer = Tokenizer(models.WordPiece(dict(ids), unk_token=UNK))
    bert = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), bert]) if nfkc else bert
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
