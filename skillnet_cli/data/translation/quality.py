"""By which rules a translation into Chinese is left out."""

from __future__ import annotations

import re
from collections import Counter

LEAST_CHINESE = 0.3
"""Share of a translation's letters that must be Chinese characters; names and identifiers stay as they are."""

SHORTEST, LONGEST = 0.1, 3.0
"""Characters of the translation for each of the original; English into Chinese is about 0.3."""

RUN = 4
"""Characters of a run that must not fill half of the translation by coming again and again."""

_CHINESE = re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]")
_LETTER = re.compile(r"[^\W\d_]")
_UNKNOWN = re.compile(r"<unk>|\[UNK\]|⁇|\ufffd", re.IGNORECASE)


def why_poor(original: str, translated: str | None) -> str | None:
    """The rule that a translation breaks, None where it is good enough.

    It must be there, have no character that its model did not know, be Chinese for the greater part, be neither far
    shorter nor far longer than the original, and not go round in circles.
    """
    if not translated or not translated.strip():
        return "it could not be translated"
    if _UNKNOWN.search(translated):
        return "the translation has unknown characters"
    if chinese_share(translated) < LEAST_CHINESE:
        return f"less than {LEAST_CHINESE:.0%} of the translation is Chinese"
    if not SHORTEST <= len(translated) / len(original) <= LONGEST + 10 / len(original):
        return "the translation is far shorter or longer than the original"
    if _goes_round(translated):
        return "the translation repeats itself"
    return None


def chinese_share(text: str) -> float:
    """The share of a text's letters that are Chinese characters; 0 where it has none."""
    return len(_CHINESE.findall(text)) / max(1, len(_LETTER.findall(text)))


def _goes_round(text: str) -> bool:
    letters = "".join(_LETTER.findall(text))
    runs = Counter(letters[place : place + RUN] for place in range(len(letters) - RUN + 1))
    most = max(runs.values(), default=0)
    return most > 2 and most * RUN > len(letters) / 2
