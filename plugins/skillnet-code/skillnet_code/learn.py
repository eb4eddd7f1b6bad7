"""Learns a vocabulary of word-pieces from code: the same code gives the same file, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from skillnet_code.pieces import base_pieces, code_tokenizer
from skillnet_code.spelling import Spelling
from skillnet_text.learn import described, frequent_characters, learn_pieces, left_out
from skillnet_text.vocabulary import UNK, Vocabulary

CHARACTER_SHARE = 0.3
"""At most this share of a vocabulary goes to characters beyond ASCII; the others are spelt in bytes."""


def learn_vocabulary(texts: Iterable[str], size: int, out: Path) -> str:
    """Learn ``size`` word-pieces of code (fewer where the code yields fewer) and write them to ``out``.

    Returns:
        How many entries it has, and what was left out.

    Raises:
        UserError: there is no code, or ``size`` has no room for the pieces that every vocabulary has.
    """
    codes = list(texts)
    kept = frequent_characters(codes, int(size * CHARACTER_SHARE))
    spelling = Spelling(kept)
    spelt = [spelling.spell(code) for code in codes]
    pieces = learn_pieces(partial(code_tokenizer, {UNK: 0}), spelt, size, base_pieces())
    Vocabulary(pieces).save(out)
    return described(len(pieces), size, left_out(codes, kept))
