"""Pairs of a Python function and what it does, in Chinese: found in records and packages, translated, filtered."""

from __future__ import annotations

import hashlib
import itertools
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from skillnet_cli.prepare.duplicates import reject_near_duplicates, signature
from skillnet_cli.prepare.preparer import Item, Items, Kept, Preparer, Range, Rejected
from skillnet_cli.prepare.translation import Translation, translation_of, why_poor
from skillnet_cli.sources.archives import FileTree
from skillnet_code.datasets.describe import LONGEST, chinese_characters, shorten
from skillnet_code.datasets.harvest import FEWEST_LETTERS, essence_of_text
from skillnet_code.datasets.packages import is_package, package_ranges, read_package
from skillnet_code.datasets.pair import Pair
from skillnet_code.datasets.records import read_records, record_ranges

FEWEST_CHINESE = 5
"""Chinese characters from which on a description counts as Chinese, whatever names and identifiers are in it; with
fewer, they must be half of its letters."""

ALIKE = 0.9
"""Share of three tokens in a row that two codes have in common, from which on they are near duplicates."""

AT_ONCE = 2_000
"""Pairs that are translated together."""

_TOKEN = re.compile(r"[^\W\d]\w*|\d+|[^\s\w]")
_COMMENT = re.compile(r"#[^\n]*")
_BLANK = re.compile(r"#[^\n]*|\s")
_KANA = re.compile("[\u3040-\u30ff]")
_ENGLISH = re.compile("[A-Za-z]")
_LETTER = re.compile(r"[^\W\d_]")


class _Files(FileTree):
    """The sources; compressed source archives of packages stay files, which are ranges of their own."""

    def opens(self, archive: Path) -> bool:
        """Whether it is no package."""
        return not is_package(archive.name)


class Pairs(Preparer):
    """Reads records in CodeSearchNet's layout (``*.jsonl``, packed or not), wheels and source archives.

    Left out are pairs without a description of four letters; those whose description is neither Chinese nor English,
    or English with nobody to translate it; poor translations; and copies: of a code but for comments, white space
    and case, and of 0.9 of its runs of three tokens. Descriptions are cut, at the end of a clause, to the 64 tokens
    that a text may have beside its code.
    """

    version = "2"

    @cached_property
    def files(self) -> FileTree:
        """The sources that are not single packages."""
        return _Files([path for path in self.job.paths if not is_package(path.name)], self.folder)

    @cached_property
    def translation(self) -> Translation | None:
        """The translator that was named."""
        return translation_of(self.job)

    def ranges(self) -> Sequence[Range]:
        """Records with those to measure on first, so that a copy in train is the one that goes; then packages."""
        found = [*record_ranges(self.files), *package_ranges(self.files, self.job.paths)]
        if not found:
            self.files.one("*.jsonl", "*.jsonl.gz", "*.whl")
        return found

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        """An item for every pair of a range."""
        kind, payload = range.payload
        if kind == "records":
            return self.items(read_records(self.files, payload))
        return self.items(read_package(self.files, self.job.paths, payload))

    def items(self, found: Iterable[Pair | Rejected]) -> Iterator[Kept | Rejected]:
        """Translate what has to be, many at a time, and filter."""
        rest = iter(found)
        while batch := list(itertools.islice(rest, AT_ONCE)):
            foreign = [each.text for each in batch if isinstance(each, Pair) and language(each.text) == "en"]
            asked = self.translation.translate(foreign) if self.translation and foreign else []
            chinese = dict(zip(foreign, asked, strict=False))
            for each in batch:
                yield each if isinstance(each, Rejected) else self._item(each, chinese)

    @abstractmethod
    def refuses(self, pair: Pair, content: str) -> str | None:
        """A reason of this set's own to leave a pair out."""

    def filter(self, items: Items) -> None:
        """Leave out near duplicates."""
        reject_near_duplicates(items, self.folder, ALIKE, "nearly the code of", _signature)

    def _item(self, pair: Pair, chinese: dict[str, str | None]) -> Kept | Rejected:
        content = content_of(pair.code)
        known = language(pair.text)
        reason = _why_none(pair, known, bool(self.translation)) or self.refuses(pair, content)
        if not reason and known == "en":
            poor = why_poor(pair.text, chinese[pair.text])
            reason = poor and f"a poor translation: {poor}"
        if reason:
            return Rejected(pair.split, pair.id, "filtered", reason)
        whole = pair.text if known == "zh" else str(chinese[pair.text])
        text = shorten(whole)
        fields = {"text": [text], "code": pair.code, "licence": pair.licence, "origin": pair.origin}
        translated = {"original": pair.text} if known == "en" else {}
        facts = [
            signature(tokens(pair.code)),
            hashlib.sha256(essence_of_text(text).encode()).hexdigest()[:32],
            text != whole,
        ]
        return Kept(pair.split, pair.id, {**fields, **translated}, content=content, facts=facts)


def shortened(items: Items) -> dict[str, int]:
    """For the manifest: how many descriptions were cut to a text's 64 tokens."""
    return {f"descriptions cut to {LONGEST} characters": sum(bool(item.facts[2]) for item in items)}


def _why_none(pair: Pair, known: str | None, translating: bool) -> str | None:
    """Why nothing can be learnt from a pair, None where something can."""
    if len(essence_of_text(pair.text)) < FEWEST_LETTERS:
        return "the docstring has no description"
    if known is None:
        return "the description is neither Chinese nor English"
    if known == "en" and not translating:
        return "the description is English, and no --translator is named"
    return None


def language(text: str) -> str | None:
    """``zh`` or ``en``, None for anything else."""
    letters, chinese = len(_LETTER.findall(text)), chinese_characters(text)
    if chinese >= FEWEST_CHINESE or 2 * chinese >= max(1, letters):
        return None if _KANA.search(text) else "zh"
    return "en" if letters and len(_ENGLISH.findall(text)) >= 0.8 * letters else None


def content_of(code: str) -> str:
    """What copies are compared by: a code without comments, white space and capitals."""
    return _BLANK.sub("", code).casefold()


def tokens(code: str) -> list[str]:
    """What near duplicates are compared by: names, numbers as one, marks; no comments, no white space."""
    return ["0" if token[0].isdigit() else token for token in _TOKEN.findall(_COMMENT.sub("", code))]


def _signature(item: Item) -> str:
    return str(item.facts[0])
