"""``text-corpus``: anyone's files of Chinese text as passages, cleaned, each once, to fill in what is hidden.

A plain file is a document whose lines are paragraphs; of a file of JSON lines, every line is a document (``text``,
``content`` or ``article``); of a dump of Wikipedia, every article. A paragraph is a passage by itself, or several where
it is long; short ones are joined with those that follow, so that verses and dialogues are not lost.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from skillnet_cli.api import DamagedItem
from skillnet_cli.prepare.preparer import Kept, Preparer, Range, Rejected, Rejection
from skillnet_cli.sources.members import Member
from skillnet_cli.sources.texts import Line, LineFile, byte_ranges, lines_between, read_lines
from skillnet_text.datasets import wikipedia
from skillnet_text.datasets.cleaning import clean, essence, split_long, why_unfit

PACKED = ("", ".gz", ".bz2", ".xz", ".zst")
PLAIN, JSON = ("txt", "text", "md"), ("jsonl", "ndjson")
DUMP = re.compile(r"\.xml(-p\d+p\d+)?(\.(gz|bz2|xz|zst))?\Z", re.IGNORECASE)
"""How a wiki's dump is called, or a part of it, such as ``pages-articles1.xml-p1p187712.bz2``."""
PATTERNS = tuple(f"*.{kind}{packed}" for kind in (*PLAIN, *JSON) for packed in PACKED)
DUMPS = tuple(f"*.xml{part}{packed}" for part in ("", "-p*") for packed in PACKED)
INDEX = re.compile(r"-pages-articles[^/]*-index\d*\.txt[^/]*\Z")
"""The list of titles beside a dump; it is no text."""
TEXT_KEYS = ("text", "content", "article")

STEP = 32 << 20
"""Bytes of a range of a large file that is not compressed."""

SMALL_FILES = 1_000
"""Files of at most a thousandth of :data:`STEP` that are a range together."""

DEV = 1_000
"""One passage of so many, by its checksum, is held out as dev."""


@dataclass(frozen=True)
class Paragraph:
    """One paragraph and where it is from; ``ends`` says that its document does. Or in ``damage`` why there is none.

    ``why`` is the class of what there is none of.
    """

    where: str
    text: str = ""
    ends: bool = False
    damage: str | None = None
    why: Rejection = "damaged"


class TextCorpus(Preparer):
    """A range a file, several where it is large and not compressed, or one for many small files.

    A passage is an item.
    """

    version = "2"
    shard_items = 10_000

    def ranges(self) -> Sequence[Range]:
        """All files of text in order."""
        leaves = [leaf for leaf in self.files.named(*PATTERNS, *DUMPS) if not INDEX.search(leaf.name)]
        if not leaves:
            self.files.one(*PATTERNS[::5], DUMPS[0])
        return [each for group in groups(leaves) for each in self._of_group(group)]

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        """An item for every passage, and for every line that cannot be read."""
        paragraphs = itertools.chain.from_iterable(map(self._paragraphs, range.payload))
        for each in passages(paragraphs, self.job.options["join"], self.job.options["length"]):
            if each.damage is not None:
                yield Rejected("train", each.where, each.why, each.damage)
            elif reason := why_unfit(each.text):
                yield Rejected("train", each.where, "filtered", reason)
            else:
                same = essence(each.text)
                yield Kept(self._split(same), each.where, {"text": [each.text]}, content=same)

    def _of_group(self, leaves: Sequence[Member]) -> Iterator[Range]:
        if len(leaves) > 1:
            encoding = self.job.options["encoding"]
            name = f"{leaves[0].name} and {len(leaves) - 1} more"
            yield Range(name, [[leaf.name, encoding] for leaf in leaves])
        else:
            yield from self._of_leaf(leaves[0])

    def _of_leaf(self, leaf: Member) -> Iterator[Range]:
        if DUMP.search(leaf.name):
            yield Range(leaf.name, [[leaf.name, None]])
            return
        encoding = self.job.options["encoding"] or (_encoding(leaf) if leaf.size > STEP else None)
        packed = leaf.name.endswith(PACKED[1:])
        wide = (encoding or "").lower().replace("_", "-").startswith(("utf-16", "utf-32"))
        if leaf.size <= STEP or packed or wide or not leaf.seekable:
            yield Range(leaf.name, [[leaf.name, encoding if self.job.options["encoding"] else None]])
            return
        for start, end in byte_ranges(leaf, STEP):
            yield Range(f"{leaf.name} from byte {start}", [[leaf.name, encoding, start, end]])

    def _paragraphs(self, payload: Sequence[object]) -> Iterator[Paragraph]:
        name, encoding, *between = payload
        leaf = self.files[str(name)]
        if DUMP.search(leaf.name):
            return _of_dump(leaf)
        lines = _lines(leaf, None if encoding is None else str(encoding), between)
        of_json = any(f".{kind}" in leaf.name.rpartition("/")[2].lower() for kind in JSON)
        return _of_documents(lines) if of_json else _of_lines(lines)

    def _split(self, same: str) -> str:
        number = int.from_bytes(hashlib.sha256(f"{self.job.seed}:{same}".encode()).digest()[:8], "little")
        return "train" if number % DEV else "dev"


def passages(paragraphs: Iterable[Paragraph], short: int, longest: int) -> Iterator[Paragraph]:
    """Clean paragraphs, cut the long ones at the ends of sentences, and join the short ones; damage is passed on.

    Args:
        paragraphs: in order.
        short: paragraphs of fewer characters are joined with the next of their document.
        longest: the most characters of a passage.
    """
    joined = Paragraph("")
    for each in paragraphs:
        if each.damage is not None:
            yield each
            continue
        for number, text in enumerate(split_long(clean(each.text), longest)):
            where = f"{each.where}-{number}" if number else each.where
            if joined.text and len(joined.text) + 1 + len(text) > longest:
                yield joined
                joined = Paragraph("")
            if len(text) >= short:
                if joined.text:
                    yield joined
                    joined = Paragraph("")
                yield Paragraph(where, text)
            elif text:
                joined = Paragraph(joined.where or where, f"{joined.text}\n{text}".strip())
        if each.ends and joined.text:
            yield joined
            joined = Paragraph("")
    if joined.text:
        yield joined


def groups(leaves: Sequence[Member]) -> Iterator[list[Member]]:
    """Files in order: of small ones up to :data:`SMALL_FILES` together, each other one by itself.

    A range has files of its own in the work folder, which many thousands of small ones would fill.
    """
    group: list[Member] = []
    for leaf in leaves:
        small = leaf.size <= STEP // 1000
        if group and (not small or len(group) == SMALL_FILES):
            yield group
            group = []
        if small:
            group.append(leaf)
        else:
            yield [leaf]
    if group:
        yield group


def _encoding(leaf: Member) -> str:
    with leaf.open() as file:
        return LineFile(file).label.lower()


def _lines(leaf: Member, encoding: str | None, between: Sequence[object]) -> Iterator[tuple[str, Line]]:
    if between:
        start, end = (int(str(each)) for each in between)
        return ((f"{leaf.name}@{at}", line) for at, line in lines_between(leaf, start, end, encoding or "utf-8"))
    return ((f"{leaf.name}:{line.number}", line) for line in read_lines(leaf, encoding))


def _of_dump(dump: Member) -> Iterator[Paragraph]:
    try:
        for page in wikipedia.pages(dump):
            where = f"{dump.name}:{page.number}"
            if page.damage is not None:
                yield Paragraph(where, damage=page.damage)
            elif page.unfit is not None:
                yield Paragraph(where, damage=page.unfit, why="filtered")
            elif not (text := wikipedia.plain(page.text)):
                yield Paragraph(where, damage="it has no text", why="filtered")
            else:
                paragraphs = text.split("\n")
                for number, text in enumerate(paragraphs):
                    yield Paragraph(f"{where}.{number}" if number else where, text, ends=number == len(paragraphs) - 1)
    except wikipedia.NoDumpError:
        yield Paragraph(dump.name, damage="an XML document that is no dump of a wiki", why="filtered")


def _of_lines(lines: Iterable[tuple[str, Line]]) -> Iterator[Paragraph]:
    for where, line in lines:
        yield Paragraph(where, line.text, damage=line.damage)
    yield Paragraph("", ends=True)


def _of_documents(lines: Iterable[tuple[str, Line]]) -> Iterator[Paragraph]:
    for where, line in lines:
        if not line.damage and not line.text.strip():
            continue
        try:
            paragraphs = _text_of(line).split("\n")
        except DamagedItem as error:
            yield Paragraph(where, damage=str(error))
            continue
        for number, text in enumerate(paragraphs):
            yield Paragraph(f"{where}.{number}" if number else where, text, ends=number == len(paragraphs) - 1)


def _text_of(line: Line) -> str:
    record = line.json()
    for key in TEXT_KEYS:
        if isinstance(record.get(key), str):
            return str(record[key])
    raise DamagedItem(f"it has no {', '.join(TEXT_KEYS)}")
