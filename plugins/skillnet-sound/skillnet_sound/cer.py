"""The character error rate."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from skillnet_cli.api import UserError

NORMALISER = "NFKC, lower case, without punctuation and spaces"
"""What :func:`normalise` does, to be named beside every figure."""


def normalise(text: str) -> str:
    """A text as it is scored: letters, digits and symbols alone, in compatibility form and lower case."""
    compatible = unicodedata.normalize("NFKC", text).lower()
    return "".join(character for character in compatible if unicodedata.category(character)[0] not in "PZC")


def cer(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Edits that turn the predictions into the references, divided by the references' characters, of the whole corpus.

    Raises:
        UserError: there is no text to compare with.
    """
    import jiwer

    wanted = [normalise(text) for text in references]
    if not any(wanted):
        raise UserError("cer: the references contain no text")
    result = jiwer.process_characters(wanted, [normalise(text) for text in predictions])
    return float(result.cer)
