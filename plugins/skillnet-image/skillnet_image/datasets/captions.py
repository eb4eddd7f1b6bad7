"""Which captions from the web are good enough to learn from: the paper's three rules (appendix), in numbers.

The paper leaves out captions "with no Chinese words, too many illegal symbols", and shorter than 4.
"""

from __future__ import annotations

import re
import unicodedata

SHORTEST = 4
"""Characters."""
ILLEGAL_SHARE = 0.2
"""Of all characters but spaces."""

_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")
_LEGAL_CLASSES = ("L", "M", "N", "P", "Sc", "Zs")
_MARKUP = frozenset("<>{}[]|\\^`~=_")


def reason_against(caption: str) -> str | None:
    """Why a caption is left out, or None."""
    caption = caption.strip()
    if len(caption) < SHORTEST:
        return f"the caption is shorter than {SHORTEST} characters"
    if not _CHINESE.search(caption):
        return "the caption has no Chinese words"
    visible = [character for character in caption if not character.isspace()]
    if sum(map(_is_illegal, visible)) > ILLEGAL_SHARE * len(visible):
        return f"more than {ILLEGAL_SHARE:.0%} of the caption are illegal symbols"
    return None


def _is_illegal(character: str) -> bool:
    """Markup, emoji and other pictures, control characters, and what stands for unreadable ones."""
    return character in _MARKUP or not unicodedata.category(character).startswith(_LEGAL_CLASSES)
