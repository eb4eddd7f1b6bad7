"""How raw Chinese text is cleaned, and by which rules a passage is left out."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator

FEWEST_CHINESE = 8
LEAST_CHINESE = 0.3
"""Share of a passage's visible characters that must be Chinese characters or Chinese punctuation."""

MOST_SYMBOLS = 0.1
"""Share of a passage's visible characters that may be broken or private ones, or none of any script or punctuation."""

SHORTEST_LINES = 4
"""Characters that the lines of a passage must have on average; those of a list of words have fewer."""

RUN = 8
MOST_REPEATED = 0.5
"""Share of a passage that one run of eight characters may make up by coming again and again."""

_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,300}>")
_ADDRESS = re.compile(r"(?:https?|ftp)://[!-~]+")
_INVISIBLE = re.compile("[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_BLANK = re.compile(r"[^\S\n]+")
_SAME = re.compile(r"([^\w\s])\1{3,}")
_CHINESE = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_CHINESE_TEXT = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3000-\u303f\uff00-\uffef“”‘’…—·]")
_ODD = re.compile("[\ufffd\ue000-\uf8ff\U000f0000-\U0010ffff\u2500-\u25ff\u2800-\u28ff]")
_SENTENCE = re.compile(r".+?(?:[。！？；…]+[”』」）》]*|$)", re.DOTALL)
_MARK = re.compile(r"[\W_]")


def clean(text: str) -> str:
    """Remove tags, addresses and invisible characters; make blanks single; keep at most three equal marks in a row."""
    plain = _ADDRESS.sub("", _TAG.sub("", _without_comments(_unescaped(text))))
    return _SAME.sub(r"\1\1\1", _BLANK.sub(" ", _INVISIBLE.sub("", plain))).strip()


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text) if "&" in text else text
    except ValueError:  # the number of a character has thousands of digits
        return text


def _without_comments(text: str) -> str:
    """A text without ``<!-- … -->``; a pattern would look for the end anew at every beginning."""
    pieces, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        pieces.append(text[at:start])
        at = end + 3
    return "".join([*pieces, text[at:]])


def split_long(text: str, longest: int) -> Iterator[str]:
    """A paragraph as pieces of at most ``longest`` characters, cut at the ends of sentences where there are any."""
    if len(text) <= longest:
        yield text
        return
    piece = ""
    for found in _SENTENCE.finditer(text):
        sentence = found[0]
        if piece and len(piece) + len(sentence) > longest:
            yield piece
            piece = ""
        whole = len(sentence) // longest * longest if len(sentence) > longest else 0
        yield from (sentence[at : at + longest] for at in range(0, whole, longest))
        piece += sentence[whole:]
    if piece:
        yield piece


def why_unfit(text: str) -> str | None:
    """The rule by which a passage is left out, or None."""
    visible = len(text) - text.count(" ") - text.count("\n")
    if len(_CHINESE.findall(text)) < FEWEST_CHINESE:
        return f"fewer than {FEWEST_CHINESE} Chinese characters"
    if len(_CHINESE_TEXT.findall(text)) < LEAST_CHINESE * visible:
        return f"less than {LEAST_CHINESE:.0%} of it is Chinese"
    if len(_ODD.findall(text)) > MOST_SYMBOLS * visible:
        return f"more than {MOST_SYMBOLS:.0%} of it is broken characters and drawings"
    lines = text.split("\n")
    if len(lines) > 1 and len(text) - len(lines) + 1 < SHORTEST_LINES * len(lines):
        return f"a list: its lines have fewer than {SHORTEST_LINES} characters"
    if _repeated(text) > MOST_REPEATED:
        return "it repeats itself"
    return None


def essence(text: str) -> str:
    """The key by which equal passages are found: no punctuation, white space or capitals."""
    return _MARK.sub("", text).casefold()


def _repeated(text: str) -> float:
    """The share of a passage that its most frequent run of characters makes up, 0 where it cannot be half of it."""
    if len(set(text)) > RUN + len(text) / 2:
        return 0.0
    runs = Counter(text[place : place + RUN] for place in range(0, len(text) - RUN + 1))
    most = max(runs.values(), default=0)
    return most * RUN / len(text) if most > 1 else 0.0
