"""Reads texts and lines as publishers leave them: several encodings, compressions, and broken lines in between."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.sources.archives import BROKEN, decompressed
from skillnet_cli.sources.trees import Leaf

ENCODINGS = ("utf-8-sig", "utf-16", "gb18030")
LONGEST_LINE = 64 << 20
SAMPLE = 1 << 20
"""Bytes at the beginning of a stream that its encoding is told by."""

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Line:
    """One line, counted from 1, without its end; or in ``damage`` why it cannot be read."""

    number: int
    text: str = ""
    damage: str | None = None

    def json(self) -> dict[str, Any]:
        """The object in JSON that it holds. Raises DamagedItem where it is damaged or holds none."""
        if self.damage:
            raise DamagedItem(self.damage)
        try:
            found = json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise DamagedItem(f"line {self.number} is not JSON") from error
        if not isinstance(found, dict):
            raise DamagedItem(f"line {self.number} is not an object in JSON")
        return found


def decode(content: bytes, encoding: str | None = None) -> str:
    """Bytes as text, in the encoding that is declared or the first of UTF-8, UTF-16 (marked) and GB 18030 that fits.

    Raises:
        DamagedItem: none fits, or it is not text at all.
        UserError: there is no such encoding.
    """
    chosen = [_known(encoding)] if encoding else [_marked(content)] if _marked(content) else ["utf-8", "gb18030"]
    for each in chosen:
        try:
            text = content.decode(str(each))
        except UnicodeError:
            continue
        if "\0" in text:
            raise DamagedItem("it is not text")
        return text
    raise DamagedItem(f"it is not text in {encoding or 'UTF-8, UTF-16 or GB 18030'}")


def read_lines(source: Path | Leaf, encoding: str | None = None) -> Iterator[Line]:
    """The lines of a file, unpacked where it is compressed; a broken one, or a broken end, is a line with damage.

    Lines end in a line feed; a carriage return before it is left out.

    Raises:
        UserError: the file cannot be opened, or there is no such encoding.
    """
    try:
        file = open(source, "rb") if isinstance(source, Path) else source.open()  # noqa: SIM115 - closed below
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}") from error
    with file:
        yield from _lines(_Guarded(file), encoding)


def _lines(stream: _Guarded, encoding: str | None) -> Iterator[Line]:
    chosen = _known(encoding) if encoding else detect(stream.peek(SAMPLE))
    number = 0
    if chosen.replace("_", "-").lower().startswith(("utf-16", "utf-32")):
        raw = io.TextIOWrapper(stream, chosen, errors="replace", newline="\n")
        while text := raw.readline(LONGEST_LINE):
            number += 1
            yield _of_text(number, text)
    else:
        while content := stream.readline(LONGEST_LINE):
            number += 1
            yield _of_bytes(number, content, chosen)
    if stream.broken:
        yield Line(number + 1, damage=f"the file breaks off after line {number} ({stream.broken})")


def _of_bytes(number: int, content: bytes, encoding: str) -> Line:
    try:
        text = content.decode(encoding if number == 1 or encoding != "utf-8-sig" else "utf-8")
    except UnicodeError:
        return Line(number, damage=f"line {number} is not text in {encoding.removesuffix('-sig').upper()}")
    return _of_text(number, text)


def _of_text(number: int, text: str) -> Line:
    if "\0" in text:
        return Line(number, damage=f"line {number} is not text")
    if len(text) >= LONGEST_LINE:
        return Line(number, damage=f"line {number} is longer than {LONGEST_LINE} bytes")
    return Line(number, text.removesuffix("\n").removesuffix("\r"))


def detect(start: bytes) -> str:
    """The encoding that the beginning of a file is in: a marked one, UTF-8 where nearly all fits, else GB 18030."""
    marked = _marked(start)
    if marked:
        return marked
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(start)
    wrong = text.count("\ufffd")
    # A broken byte here and there does not make a text in UTF-8 one in GB 18030, whose bytes hardly ever fit UTF-8.
    return "utf-8" if 10 * wrong <= sum(not each.isascii() for each in text) - wrong else "gb18030"


def _marked(start: bytes) -> str | None:
    return next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), None)


def _known(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise UserError(f"there is no encoding '{encoding}': {', '.join(ENCODINGS)} are usual") from error


class _Guarded(io.BufferedReader):
    """A stream that is unpacked where it is compressed, and ends where it breaks; ``broken`` then says why."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._inner = _Breaking(file)
        super().__init__(self._inner, SAMPLE)

    @property
    def broken(self) -> str | None:
        return self._inner.broken


class _Breaking(io.RawIOBase):
    def __init__(self, file: BufferedIOBase) -> None:
        self.broken: str | None = None
        self._file: Any = None
        try:
            self._file = decompressed(file)
        except BROKEN as error:
            self.broken = str(error)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer by small reads, so that all that comes before a break is there."""
        filled = 0
        while filled < len(buffer) and not self.broken:
            try:
                piece = self._file.read1(len(buffer) - filled)
            except BROKEN as error:
                self.broken = str(error) or type(error).__name__
                break
            if not piece:
                break
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled


def byte_ranges(source: Path | Leaf, step: int) -> list[tuple[int, int]]:
    """A plain file as ranges of about ``step`` bytes, for :func:`lines_between`."""
    size = source.stat().st_size if isinstance(source, Path) else source.size
    return [(start, min(start + step, size)) for start in range(0, size, step)]


def lines_between(source: Path | Leaf, start: int, end: int, encoding: str = "utf-8") -> Iterator[tuple[int, Line]]:
    """The lines of a plain file that begin in [start, end), each with the byte that it begins at; numbers are counted
    from ``start``. Together the ranges of a file have every line once. For encodings with one byte a line feed."""
    with open(source, "rb") if isinstance(source, Path) else source.open() as file:
        if start:
            file.seek(start - 1)
            file.readline()
        number = 0
        while (at := file.tell()) < end and (content := file.readline(LONGEST_LINE)):
            number += 1
            yield at, _of_bytes(number, content, encoding if at == 0 else encoding.removesuffix("-sig"))
