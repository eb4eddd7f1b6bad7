"""The description in a docstring: its first paragraph, without addresses, parameters and markup."""

from __future__ import annotations

import bisect
import itertools
import re
import unicodedata

LONGEST = 62
"""Characters of a description: with its special tokens it stays within a text's 64 tokens (paper, appendix), since
every token of a text has at least one character."""

CHINESE = re.compile("[\u4e00-\u9fff]")

_FIELD = re.compile(
    r"""\s*(?: [:@]\w | >>> | ``` | \.\.\s | [-=*~]{3,}
    | (?: args|arguments|params?|parameters?|returns?|raises?|yields?|examples?|usage|notes?|see\ also
        |参数|入参|返回|返回值|示例|例子|用法|异常|注意|说明|备注) \s* (?: [:：(（] | $ )
    | 详情 | 详见 | 请?参[考见阅] | 更多 )""",
    re.IGNORECASE | re.VERBOSE,
)
_ADDRESS = re.compile(
    r"[，,;；:：\s]*(?:(?:详情)?请?(?:参[考见阅]|见|查看)|详见|文档|链接)?[:：\s]*https?://\S+|^\s*&\S+"
)
_TYPE = re.compile(r"^\[\w[\w .|,]*\]\s*")
_ENDS = "。；;.!！?？，, "


def description(docstring: str, longest: int | None = LONGEST) -> str:
    """The words of a docstring's first paragraph, at most ``longest`` characters; '' where it has none.

    It ends before the first blank line, rule, pointer to more, field or section (parameters, returns, …); addresses
    and what introduces them are left out; Chinese lines are joined without a space.
    """
    words = ""
    for line in docstring.splitlines():
        part = " ".join(_ADDRESS.sub("", line).split())
        if _FIELD.match(line) or (words and not line.strip()):
            break
        words = _join(words, part)
    words = _TYPE.sub("", words).strip(" :：,，、-")
    return words if longest is None else shorten(words, longest)


def first_paragraph(docstring: str) -> str:
    """All of a docstring's first paragraph, as one line."""
    return " ".join(docstring.strip().partition("\n\n")[0].split())


def chinese_characters(text: str) -> int:
    """How many Chinese characters a text has."""
    return len(CHINESE.findall(text))


def _join(words: str, part: str) -> str:
    between = "" if not words or not part or CHINESE.search(words[-1] + part[0]) else " "
    return words + between + part


def shorten(words: str, longest: int = LONGEST) -> str:
    """Words of at most ``longest`` characters, so of no more tokens whatever the vocabulary.

    They are cut at the last end of a sentence, a clause or a word that leaves at least half of the room used."""
    # A vocabulary that folds compatible characters reads some of them as several (㍿ as 株式会社).
    sizes = [max(1, len(unicodedata.normalize("NFKC", each))) for each in words]
    room = bisect.bisect_right(list(itertools.accumulate(sizes)), longest)
    if len(words) <= room:
        return words
    ends = [place for place in range(room // 2, room) if words[place] in _ENDS]
    return words[: ends[-1] if ends else room].strip(_ENDS)
