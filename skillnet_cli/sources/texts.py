"""Texts and lines as publishers leave them: in several encodings and compressions, with broken lines in between."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.sources.bounds import check_unpacked
from skillnet_cli.sources.compression import decompressed
from skillnet_cli.sources.inputs import note
from skillnet_cli.sources.members import READ_ERRORS, Member, open_file

LONGEST_LINE = 16 << 20
"""Bytes; a longer line is damage. The longest of the published sets (a JSON object of a code corpus) have 10 MiB."""
SAMPLE = 1 << 20
"""Bytes at the beginning of a file from which its encoding is detected."""

_MOST_TIMES, _SMALL = 50, 16 << 20
"""Times its own size that a compressed text may unpack to, and bytes that are always read: texts reach 5 to 20 times,
and what is made to be large has millions of lines to a megabyte."""

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16's, which it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_USUAL = ((0x20, 0x24F), (0x2010, 0x206F), (0x3000, 0x30FF), (0x3400, 0x9FFF), (0xFF00, 0xFFEF))
"""Characters of Chinese, Japanese and Latin texts; what is read in the wrong order of bytes has many others."""
_FEWEST = 8
"""Bytes from which on a text without a mark can be told from other bytes."""
_ENOUGH = 4
"""Characters of two bytes from which on their encoding can be told by how common they are."""
_COMMON = {"gb18030": ((0xA1, 0xA9), (0xB0, 0xD7)), "cp950": ((0xA1, 0xC6),)}
"""First bytes of signs and of the characters that nearly all of a Chinese text consists of: the standards' level 1."""
_ALONE = re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff0-9])")
"""A byte as that of a letter with an accent; in GB 18030 digits belong to characters of four bytes."""
_BROKEN = "skillnet-broken"
codecs.register_error(_BROKEN, lambda error: ("\udcff", getattr(error, "end", 0)))


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
    """Return bytes as text, in the given encoding or the one that is detected.

    Raises:
        DamagedItem: none fits, or it is not text at all.
        UserError: there is no such encoding.
    """
    found = detect(content[:SAMPLE])
    chosen = [_known(encoding)] if encoding else [found] if _marked(content) or _is_wide(found) else ["utf-8", found]
    for each in chosen:
        try:
            text = content.decode(str(each))
        except UnicodeError:
            continue
        if "\0" in text:
            raise DamagedItem("it is not text")
        return text
    raise DamagedItem(f"it is not text in {encoding or 'UTF-8, UTF-16, GB 18030 or Big5'}")


def read_lines(source: Path | Member, encoding: str | None = None) -> Iterator[Line]:
    """Yield the lines of a file, decompressed where needed; a broken one, or a broken end, is a line with damage.

    Lines end in a line feed; a carriage return before it is left out. Where the file has no line feeds, they end in
    carriage returns.

    Raises:
        UserError: the file cannot be opened, or there is no such encoding.
    """
    with _opened(source) as file:
        lines, number = LineFile(file, encoding), 0
        for number, (content, size) in enumerate(lines, 1):
            yield _line(number, content, size, lines)
        if lines.broken:
            yield Line(number + 1, damage=f"the file breaks off after line {number} ({lines.broken})")


def _opened(source: Path | Member) -> BufferedIOBase:
    if isinstance(source, Path):
        note(source)
        return open_file(source)
    return source.open()


class LineFile:
    """A file as lines of bytes, whatever its compression, encoding and line ends.

    UTF-16 and UTF-32 come as UTF-8, so that a line feed is one byte that occurs nowhere else; where lines end in
    carriage returns alone, these come as line feeds. Iterating yields each line with its end, and how many bytes it
    has: of one that is longer than :data:`LONGEST_LINE` only its beginning is kept in memory.

    Args:
        file: at its beginning.
        encoding: of the file; it is detected where none is named.

    Attributes:
        encoding: of the lines' bytes, without a byte order mark.
        label: what the file's own encoding is called.
        broken: the reason why the file breaks off, once it does.
    """

    def __init__(self, file: BufferedIOBase, encoding: str | None = None) -> None:
        self._file = file
        self._raw = _UpToBreak(file)
        self._stream: io.BufferedReader[Any] = io.BufferedReader(self._raw, SAMPLE)
        start = self._stream.peek(SAMPLE)
        chosen = _known(encoding) if encoding else detect(start)
        self.label = chosen.removesuffix("-sig").upper()
        self.encoding = chosen.removesuffix("-sig")
        self.at = 0
        self._wide = _is_wide(chosen)
        if self._wide:
            self._stream, self.encoding = io.BufferedReader(_Recoded(self._stream, chosen), SAMPLE), "utf-8"
            start = self._stream.peek(SAMPLE)
        if start.startswith(codecs.BOM_UTF8) and self.encoding == "utf-8":
            self.at = len(self._stream.read(len(codecs.BOM_UTF8)))
        self._returns = b"\r" in start and b"\n" not in start
        if self._returns:
            self._stream = io.BufferedReader(_LineFeeds(self._stream), SAMPLE)

    @property
    def broken(self) -> str | None:
        return self._raw.broken

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        while content := self._stream.readline(LONGEST_LINE):
            size, rest = len(content), content
            while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):  # the rest of a line that is too long
                rest = self._stream.readline(LONGEST_LINE)
                size += len(rest)
            self.at += size
            yield content, size

    def skip_line(self, end: int) -> None:
        """Go on behind the line, or at byte ``end`` if it is longer: a long one is not read for every range of it."""
        while piece := self._stream.readline(max(0, min(LONGEST_LINE, end - self.at))):
            self.at += len(piece)
            if piece.endswith(b"\n"):
                return

    def seek(self, at: int) -> None:
        """Go on at a byte of what iterating yields, counted from the beginning of the file."""
        if self._wide or self._raw.packed:
            while self.at < at and (piece := self._stream.read(min(SAMPLE, at - self.at))):
                self.at += len(piece)
            return
        # Whatever was read ahead is forgotten; nothing is decompressed, so this is where the next read begins.
        stream: Any = self._stream
        while stream is not self._raw:
            below = stream.detach()
            stream = below.stream if isinstance(below, _LineFeeds) else below
        self._file.seek(at)
        self._stream = io.BufferedReader(self._raw, SAMPLE)
        if self._returns:
            self._stream = io.BufferedReader(_LineFeeds(self._stream), SAMPLE)
        self.at = at


def _line(number: int, content: bytes, size: int, file: LineFile) -> Line:
    if size > len(content):
        return Line(number, damage=f"line {number} is longer than {LONGEST_LINE} bytes")
    try:
        text = content.decode(file.encoding)
    except UnicodeError:
        return Line(number, damage=f"line {number} is not text in {file.label}")
    if "\0" in text:
        return Line(number, damage=f"line {number} is not text")
    return Line(number, text.removesuffix("\n").removesuffix("\r"))


def detect(start: bytes) -> str:
    """Return the encoding of a file's beginning.

    By its mark; UTF-8 where nearly all of it fits; UTF-16 without a mark where that gives usual characters; else
    Windows's Big5 or GB 18030, by which the characters are common ones. Where they are not in either, it is UTF-8: so
    that each line with others than ASCII's counts as damaged, and none is read as what it is not.
    """
    marked = _marked(start)
    if marked:
        return marked
    if not _is_utf8(start.replace(b"\0", b"")) or 3 * start.count(0) >= len(start) > 0:
        wide = max(("utf-16-le", "utf-16-be"), key=lambda encoding: _usual_share(start, encoding))
        if b"\0" in start and len(start) >= _FEWEST and _usual_share(start, wide) >= 0.95:
            return wide
    return "utf-8" if _is_utf8(start) else _of_two_bytes(start[: 1 << 16])


def _of_two_bytes(start: bytes) -> str:
    seen, gb = _common(start, "gb18030")
    _, big5 = _common(start, "cp950")
    if seen >= _ENOUGH and big5 >= 0.9 > 0.6 > gb:
        return "cp950"
    high = len(start.translate(None, bytes(range(0x80))))
    enough = seen >= _ENOUGH or len(_ALONE.findall(start)) == high
    return "utf-8" if enough and gb < 0.3 else "gb18030"


def _common(start: bytes, encoding: str) -> tuple[int, float]:
    """How many characters are not ASCII's, and the share of common ones among them."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(start)
    others = [each.encode(encoding, "replace") for each in text if not each.isascii()]
    low = 0xA1 if encoding == "gb18030" else 0x40
    common = sum(
        len(each) == 4 or any(first <= each[0] <= last and each[1] >= low for first, last in _COMMON[encoding])
        for each in others
        if len(each) > 1
    )
    return len(others), common / max(1, len(others))


def _is_utf8(start: bytes) -> bool:
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(start)
    wrong = text.count("\ufffd")
    # A broken byte here and there does not make a text in UTF-8 one in GB 18030, whose bytes hardly ever fit UTF-8.
    return 10 * wrong <= sum(not each.isascii() for each in text) - wrong


def _usual_share(start: bytes, encoding: str) -> float:
    text = codecs.getincrementaldecoder(encoding)("replace").decode(start[: 1 << 16])
    usual = sum(each in "\t\r\n" or any(low <= ord(each) <= high for low, high in _USUAL) for each in text)
    return usual / max(1, len(text))


def _marked(start: bytes) -> str | None:
    return next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), None)


def _is_wide(encoding: str) -> bool:
    """Whether a line feed is more than one byte, so that the byte 0x0a is no line end."""
    return encoding.replace("_", "-").lower().startswith(("utf-16", "utf-32"))


def _known(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise UserError(f"unknown encoding '{encoding}': the usual ones are utf-8-sig, utf-16 and gb18030") from error


class _UpToBreak(io.RawIOBase):
    """A file, decompressed where needed, that ends where it breaks off; ``broken`` then is the reason."""

    def __init__(self, file: BufferedIOBase) -> None:
        self.broken: str | None = None
        self.packed = False
        self._file: Any = None
        try:
            self._file = decompressed(file)
            self.packed = self._file is not file
        except READ_ERRORS as error:
            self.broken = str(error) or type(error).__name__
        self._size = _size_of(file) if self.packed else None
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer by small reads, so that nothing that comes before the break is lost."""
        filled = 0
        while filled < len(buffer) and not self.broken:
            try:
                piece = self._file.read1(len(buffer) - filled)
                self._unpacked += len(piece)
                if self._size is not None:
                    check_unpacked(self._size, self._unpacked, _MOST_TIMES, _SMALL)
            except READ_ERRORS as error:
                self.broken = str(error) or type(error).__name__
                break
            if not piece:
                break
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled


def _size_of(file: BufferedIOBase) -> int | None:
    """The size of a file; None for one that would have to be read for it."""
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:
        at = file.tell()
        size = file.seek(0, os.SEEK_END)
        file.seek(at)
        return size


class _Recoded(io.RawIOBase):
    """A file in UTF-16 or UTF-32 as UTF-8; what is broken becomes bytes that no UTF-8 has."""

    def __init__(self, stream: Any, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(_BROKEN)
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            piece = self._stream.read1(1 << 16)
            self._ended = not piece
            self._ready = self._decoder.decode(piece, not piece).encode("utf-8", "surrogatepass")
        piece, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


class _LineFeeds(io.RawIOBase):
    """A file with line feeds for its carriage returns."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.stream.read1(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(piece)] = piece
        return len(piece)


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
    with _opened(source) as file:
        lines = LineFile(file, encoding)
        if start:
            lines.seek(start - 1)
            lines.skip_line(end)  # the rest of a line of the range before, if it is only the end of that line
        number, at = 0, lines.at if start else 0  # a byte order mark belongs to the first line
        while at < end and (found := next(iter(lines), None)):
            number += 1
            yield at, _line(number, *found, lines)
            at = lines.at
