"""The transcripts of a corpus, read from the files that its publisher provides."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from skillnet_cli.api import DamagedItem
from skillnet_cli.prepare.preparer import Rejected
from skillnet_cli.sources.members import Member
from skillnet_cli.sources.texts import Line, decode, read_lines
from skillnet_sound import SUFFIXES

Key: TypeAlias = tuple[str, str]
"""The folder that a transcript is for, and the name of the recording in it."""

HEADER = "UtteranceID"

SEPARATORS = "\t ,|，\u3000"
"""What may stand between the name of a recording and its text."""

LONGEST_NAME = 500
"""Characters of a line in which the name is looked for."""


@dataclass(frozen=True)
class Entry:
    """The transcript of one recording, or in ``damage`` why it cannot be read."""

    place: str
    id: str = ""
    text: str = ""
    damage: str | None = None


@dataclass
class Transcripts:
    """The transcripts of a corpus, and the lines that are damaged or duplicates."""

    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)

    def add(self, folder: str, entries: Iterable[Entry]) -> None:
        """Take up the transcripts for the recordings in ``folder`` and below it; the first for an id counts."""
        texts = self.texts.setdefault(folder, {})
        for entry in entries:
            if entry.damage:
                self.rejected.append(Rejected("", entry.place, "damaged", entry.damage))
            elif entry.id in texts:
                self.rejected.append(Rejected("", entry.id, "duplicate", "another transcript has this id"))
            else:
                texts[entry.id] = entry.text

    def find(self, name: str) -> Key | None:
        """The key of the transcript of a recording: one for its folder goes before one for a folder above."""
        path = PurePosixPath(name).with_suffix("")
        for folder in map(_folder, path.parents):
            texts = self.texts.get(folder)
            if texts is None:
                continue
            for id in (path.relative_to(folder or ".").as_posix(), path.name):
                if id in texts:
                    return folder, id
        return None

    def __getitem__(self, key: Key) -> str:
        return self.texts[key[0]][key[1]]

    def __iter__(self) -> Iterator[Key]:
        return ((folder, id) for folder, texts in self.texts.items() for id in texts)


def folder_of(name: str) -> str:
    """The folder that a file lies in, "" for the topmost."""
    return _folder(PurePosixPath(name).parent)


def _folder(path: PurePosixPath) -> str:
    return "" if path == PurePosixPath() else path.as_posix()


def entries_of(leaf: Member, format: str, known: Callable[[str], bool] = lambda name: False) -> Iterator[Entry]:
    """The transcripts in a file.

    Args:
        leaf: the file.
        format: ``words`` (name, blank, tab, comma or bar, text), ``table`` (id, speaker, text, by tabs) or ``json``.
        known: whether a name, without its suffix, is a recording's: such a name may have blanks and commas in it.
    """
    if format == "json":
        yield from _of_json(leaf)
        return
    for line in read_lines(leaf):
        place = f"{leaf.name}, line {line.number}"
        if line.damage:
            yield Entry(place, damage=line.damage)
        elif line.text.strip() and not line.text.startswith(HEADER):
            yield _of_line(place, line, format, known)


def _of_line(place: str, line: Line, format: str, known: Callable[[str], bool]) -> Entry:
    if format == "table":
        id, *rest = line.text.split("\t", 2)
        return Entry(place, _bare(id.strip()), rest[-1] if rest else "")
    id, text = _divided(line.text, known)
    return Entry(place, _bare(id.strip()), text)


def _divided(line: str, known: Callable[[str], bool]) -> tuple[str, str]:
    """The name of a recording and its text: the longest name that is known, else what stands before the first tab, or
    before the first separator of any kind."""
    line = line.strip()
    ends = [place for place, each in enumerate(line[:LONGEST_NAME]) if each in SEPARATORS]
    for end in reversed(ends):
        if known(_bare(line[:end].strip().strip('"'))):
            return line[:end].strip().strip('"'), _first_column(line, end)
    tab = line.find("\t")
    end = tab if tab >= 0 else min(ends, default=len(line))
    return line[:end], _first_column(line, end)


def _first_column(line: str, end: int) -> str:
    """The text behind the separator at ``end``; bars and tabs end it, commas and blanks are parts of it."""
    rest = line[end + 1 :]
    return rest.partition(line[end])[0] if line[end : end + 1] in ("|", "\t") else rest


def _of_json(leaf: Member) -> Iterator[Entry]:
    try:
        records = json.loads(decode(leaf.read()))
    except DamagedItem as error:
        yield Entry(leaf.name, damage=str(error))
        return
    except (ValueError, RecursionError):
        yield Entry(leaf.name, damage="it is not JSON")
        return
    for number, record in enumerate(records if isinstance(records, list) else [records], 1):
        yield _of_record(f"{leaf.name}, record {number}", record)


def _of_record(place: str, record: Any) -> Entry:
    file, text = (record.get("file"), record.get("text")) if isinstance(record, dict) else (None, None)
    if not isinstance(file, str) or not isinstance(text, str):
        return Entry(place, damage="it names no recording and its text")
    return Entry(place, _bare(file), text)


def _bare(name: str) -> str:
    """A recording's name without its suffix of sound, if it has one."""
    return name[: -len(PurePosixPath(name).suffix)] if name.lower().endswith(SUFFIXES) else name


def first_line(content: bytes) -> str:
    """The text of a file beside a recording: its first line. Raises DamagedItem where it is not text."""
    return decode(content).lstrip("\ufeff").strip("\n").partition("\n")[0]


def spaceless(text: str) -> str:
    """A text without blanks of any kind."""
    return "".join(text.split())


def plain(text: str, marks: str | None = None) -> str:
    """A text without blanks, punctuation, and what ``marks`` fits."""
    if marks:
        text = re.sub(marks, "", text)
    return "".join(each for each in text if unicodedata.category(each)[0] not in "PZC")
