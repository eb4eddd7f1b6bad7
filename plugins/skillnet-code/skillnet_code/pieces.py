"""Where code is cut into words, and the pieces that every code vocabulary has."""

from __future__ import annotations

from collections.abc import Mapping

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from skillnet_code.spelling import PRINTABLE, spell_bytes
from skillnet_text.vocabulary import CONTINUES, UNK

SPACE, TAB, FEED, RETURN = (spell_bytes(byte) for byte in (b" ", b"\t", b"\n", b"\r"))

# A word may begin with one space or, an identifier's part, with its underscores. '#' is a word of its own: else a word
# could begin with what marks pieces that continue one.
WORDS = "|".join(
    (
        f"[{RETURN}{FEED}]{{1,8}}[{SPACE}{TAB}]{{0,32}}",  # the end of a line and the next one's indentation
        f"{SPACE}?_{{0,2}}[A-Za-z]{{1,32}}",
        f"{SPACE}?[0-9]{{1,3}}",
        f"{SPACE}?#",
        f'{SPACE}?[!-"$-/:-@\\[-`{{-~]{{1,8}}',
        f"[{SPACE}{TAB}]{{1,32}}",
        ".",
    )
)


def code_tokenizer(ids: Mapping[str, int]) -> Tokenizer:
    """The word-piece tokenizer over ``ids`` for spelt code."""
    tokenizer = Tokenizer(models.WordPiece(dict(ids), unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    return tokenizer


def base_pieces() -> tuple[str, ...]:
    """The pieces that spell any text at all: ASCII and white space at every place of a word, and all other bytes."""
    ascii_pieces = sorted(PRINTABLE)
    blanks = [RETURN, FEED, SPACE, TAB]
    others = [spell_bytes(bytes([byte])) for byte in range(256) if chr(byte) not in PRINTABLE]
    return (*ascii_pieces, *others, *(CONTINUES + piece for piece in [*ascii_pieces, *blanks]))
