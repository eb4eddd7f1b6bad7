"""Texts and lines as publishers leave them: in several encodings and compressions, with broken lines in between."""

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
from skillnet_cli.sources.archives import READ_ERRORS, Member, decompressed

LONGEST_LINE = 64 << 20
"""Bytes; a longer line is damage. The longest of the published sets (a JSON object of a code corpus) have 10 MiB."""
SAMPLE = 1 << 20
"""Bytes at the beginning of a file from which its encoding is detected."""

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Line:
    """A line without its end, counted from 1; or ``damage``, the reason why it cannot be read."""

    number: int
    text: str = ""
    damage: str | None = None

    def json(self) -> dict[str, Any]:
        """Return the JSON object in it. Raises DamagedItem where it is damaged or holds something else."""
        if self.damage:
            raise DamagedItem(self.damage)
        try:
            found = json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise DamagedItem(f"line {self.number} is not JSON") from error
        if not isinstance(found, dict):
            raise DamagedItem(f"line {self.number} is not a JSON object")
        return found


def decode(content: bytes, encoding: str | None = None) -> str:
    """Return bytes as text, in the given encoding or the first of UTF-8, UTF-16 (with a mark) and GB 18030 that fits.

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


def read_lines(source: Path | Member, encoding: str | None = None) -> Iterator[Line]:
    """Yield the lines of a file, decompressed where needed; a broken one, or a broken end, is a line with damage.

    Lines end in a line feed; a carriage return before it is left out.

    Raises:
        UserError: the file cannot be opened, or there is no such encoding.
    """
    try:
        file = source.open("rb") if isinstance(source, Path) else source.open()
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}") from error
    with file:
        raw, number = _UpToBreak(file), 0
        stream = io.BufferedReader(raw, SAMPLE)
        chosen = _known(encoding) if encoding else detect(stream.peek(SAMPLE))
        if chosen.replace("_", "-").lower().startswith(("utf-16", "utf-32")):  # a byte 0x0a is no line end there
            decoded = io.TextIOWrapper(stream, chosen, errors="replace", newline="\n")
            while text := decoded.readline(LONGEST_LINE):
                number += 1
                yield _of_text(number, text)
        else:
            while content := stream.readline(LONGEST_LINE):
                number += 1
                yield _of_bytes(number, content, chosen)
        if raw.broken:
            yield Line(number + 1, damage=f"the file breaks off after line {number} ({raw.broken})")


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
    """Return the encoding of a file's beginning: by its mark, UTF-8 where nearly all of it fits, else GB 18030."""
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
        raise UserError(f"unknown encoding '{encoding}': the usual ones are utf-8-sig, utf-16 and gb18030") from error


class _UpToBreak(io.RawIOBase):
    """A file, decompressed where needed, that ends where it breaks off; ``broken`` then is the reason."""

    def __init__(self, file: BufferedIOBase) -> None:
        self.broken: str | None = None
        self._file: Any = None
        try:
            self._file = decompressed(file)
        except READ_ERRORS as error:
            self.broken = str(error) or type(error).__name__

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer by small reads, so that nothing that comes before the break is lost."""
        filled = 0
        while filled < len(buffer) and not self.broken:
            try:
                piece = self._file.read1(len(buffer) - filled)
            except READ_ERRORS as error:
                self.broken = str(error) or type(error).__name__
                break
            if not piece:
                break
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled


def byte_ranges(source: Path | Member, step: int) -> list[tuple[int, int]]:
    """Divide a file that is not compressed into ranges of about ``step`` bytes, for :func:`lines_between`."""
    size = source.stat().st_size if isinstance(source, Path) else source.size
    return [(start, min(start + step, size)) for start in range(0, size, step)]


def lines_between(source: Path | Member, start: int, end: int, encoding: str = "utf-8") -> Iterator[tuple[int, Line]]:
    """Yield the lines that begin in a range of a file that is not compressed.

    The ranges of a file together have every line once.

    Args:
        source: the file.
        start: first byte of the range.
        end: the byte after its last.
        encoding: one in which a line feed is one byte that occurs nowhere else.

    Yields:
        The byte at which a line begins, and the line; numbers are counted from ``start``.
    """
    with source.open("rb") if isinstance(source, Path) else source.open() as file:
        if start:
            file.seek(start - 1)
            file.readline()  # the rest of a line of the range before; nothing but a line feed where a line begins here
        number = 0
        while (at := file.tell()) < end and (content := file.readline(LONGEST_LINE)):
            number += 1
            yield at, _of_bytes(number, content, encoding if at == 0 else encoding.removesuffix("-sig"))
