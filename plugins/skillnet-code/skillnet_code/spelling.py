"""Spells any text in visible characters, so that a vocabulary file can hold every part of a code.

White space, control characters and all characters that an alphabet lacks are spelt as their UTF-8 bytes, byte b as the
braille pattern U+2800 + b. Braille patterns themselves are spelt in the same way, so that the spelling can be undone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

BRAILLE = 0x2800
PRINTABLE = frozenset(map(chr, range(0x21, 0x7F)))
"""The visible ASCII characters, which every alphabet has."""

_SPELT = re.compile("[\u2800-\u28ff]+")


def spell_bytes(content: bytes) -> str:
    """One braille pattern for each byte."""
    return "".join(chr(BRAILLE + byte) for byte in content)


def _is_letter(character: str) -> bool:
    """Whether an alphabet may hold a character, so that it stands for itself."""
    return character.isprintable() and not character.isspace() and not _SPELT.match(character)


class Spelling:
    """The spelling over an alphabet: :meth:`unspell` undoes :meth:`spell`.

    Args:
        alphabet: characters that stand for themselves; white space and braille patterns among them are spelt as well.
    """

    def __init__(self, alphabet: Iterable[str]) -> None:
        letters = PRINTABLE.union(filter(_is_letter, alphabet))
        self._table = _Table({ord(letter): letter for letter in letters})

    def spell(self, text: str) -> str:
        """``text`` in characters of the alphabet and braille patterns. Raises UnicodeEncodeError at surrogates."""
        return text.translate(self._table)

    @staticmethod
    def unspell(visible: str) -> str:
        """The text again; bytes that are no UTF-8 (of a sequence that was cut short) become U+FFFD."""
        return _SPELT.sub(lambda run: _bytes(run.group()).decode("utf-8", errors="replace"), visible)


class _Table(dict[int, str]):
    """What :meth:`str.translate` looks characters up in; characters outside the alphabet are added when first met."""

    def __missing__(self, code: int) -> str:
        return spell_bytes(chr(code).encode("utf-8"))


def _bytes(spelt: str) -> bytes:
    return bytes(ord(character) - BRAILLE for character in spelt)
