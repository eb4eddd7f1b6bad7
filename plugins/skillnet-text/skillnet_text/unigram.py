"""Vocabularies of sentence pieces (Kudo 2018): learnt with sentencepiece, read with nothing but their own file.

A line holds a piece, a tab and the logarithm of its probability; special tokens come first, with probability 1.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from skillnet_cli.api import UserError
from skillnet_text.vocabulary import CLS, MASK, PAD, SEP, UNK, Vocabulary

COVERAGE = 0.9995
"""Share of all characters that single pieces cover; the others are unknown (sentencepiece's own for Chinese)."""

LONGEST = 16_384
"""Bytes of a text that is learnt from."""


def learn_sentencepiece(texts: Iterable[str], size: int, out: Path) -> None:
    """Learn ``size`` sentence pieces, fewer where the texts yield fewer, in lower case.

    Raises:
        UserError: sentencepiece is not installed, there is no text, or ``size`` is too small.
    """
    try:
        from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
    except ImportError as error:
        raise UserError("learning sentence pieces needs sentencepiece: pip install sentencepiece") from error
    model = io.BytesIO()
    special = {"pad": PAD, "unk": UNK, "bos": CLS, "eos": SEP}
    settings: dict[str, Any] = {f"{name}_id": number for number, name in enumerate(special)}
    settings |= {f"{name}_piece": piece for name, piece in special.items()}
    try:
        SentencePieceTrainer.train(
            sentence_iterator=map(normalizer(lowercase=True).normalize_str, texts), model_writer=model, vocab_size=size,
            character_coverage=COVERAGE, normalization_rule_name="identity", control_symbols=[MASK],
            hard_vocab_limit=False, num_threads=1, minloglevel=2, max_sentence_length=LONGEST,
            **settings,
        )  # fmt: skip
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"cannot learn {size} sentence pieces from these texts ({reason})") from error
    learnt = SentencePieceProcessor(model_proto=model.getvalue())
    numbers = range(learnt.get_piece_size())
    pieces = [learnt.id_to_piece(number) for number in numbers]
    Vocabulary(pieces, scores=[learnt.get_score(number) for number in numbers]).save(out)


def unigram_tokenizer(vocabulary: Vocabulary, lowercase: bool) -> Tokenizer:
    """The tokenizer over a vocabulary with scores; special tokens written out in a text are ordinary text to it."""
    scores = vocabulary.scores or ()
    # What no text may be cut into is made so improbable that it never is.
    kept = [
        (piece, -1e9 if piece in (PAD, CLS, SEP, MASK) else score)
        for piece, score in zip(vocabulary.pieces, scores, strict=True)
    ]
    tokenizer = Tokenizer(models.Unigram(kept, vocabulary.ids[UNK], byte_fallback=False))
    tokenizer.normalizer = normalizer(lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def normalizer(lowercase: bool) -> normalizers.Normalizer:
    """Compatible characters as one (NFKC), blanks single, lower case."""
    steps = [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return normalizers.Sequence([*steps, *([normalizers.Lowercase()] if lowercase else [])])
