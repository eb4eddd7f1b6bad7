"""Files that were made by joining several of one format byte by byte: where each begins.

FFmpeg reads joined MPEG audio, AAC, AC-3, Ogg, FLAC and broadcasts by itself. Of other formats it reads the first and
does not say, or takes the headers of the others for sound. These are divided where a header begins.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from skillnet_cli.files import CHUNK
from skillnet_sound.ends import EBML, MOST_ELEMENTS, UNKNOWN_32, at, boxes, caf_chunks, elements

LONGEST_HEADER = 64
"""Bytes of a file, its header's first, in which a format is told."""

PADDING = 1 << 16
"""Zeros behind a recording that are looked at one by one, as the format's own."""

ID3_LENGTH, APE_FOOTER = 128, 32
"""Bytes of an ID3 tag at the end of a file, and of what ends an APE tag and says how long it is."""

End = Callable[[io.BufferedIOBase, int, int], int]


@dataclass(frozen=True)
class _Kind:
    """A format whose joined files FFmpeg does not read whole.

    Attributes:
        header: what begins such a file: so much that it does not happen to be among samples.
        end: of a file, the place where one begins in it and its size: where that one says that it ends, so that it need
            not be searched for the next.
    """

    header: re.Pattern[bytes]
    end: End | None = None


class Section(io.BufferedIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, file: io.BufferedIOBase, start: int, end: int) -> None:
        self._file, self._start, self._end, self._place = file, start, end, 0

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes, to the end of the part where it is negative."""
        left = self._end - self._start - self._place
        self._file.seek(self._start + self._place)
        content = self._file.read(max(0, left if size is None or size < 0 else min(size, left)))
        self._place += len(content)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place within the part."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._end - self._start}[whence]
        self._place = max(0, origin + offset)
        return self._place

    def tell(self) -> int:
        """The place within the part."""
        return self._place


def joined(file: io.BufferedIOBase) -> list[tuple[int, int]]:
    """Begin and end of each file in one that was made by joining several with a header of their own each.

    One whole file that FFmpeg may read from its beginning to its end is one part. Tags in front and behind are left
    out: before a WAV FFmpeg would see nothing else, and take those behind a WavPack for damage. So is much padding with
    zeros behind a file that says where it ends: FFmpeg would take it for chunks of a WAV, eight bytes each.
    """
    size = file.seek(0, io.SEEK_END)
    begins = [behind_tags(file, size)]
    while len(begins) < MOST_ELEMENTS and (kind := _kind_at(file, begins[-1])):
        end = kind.end(file, begins[-1], size) if kind.end else 0
        if end < size and kind.end and size - end > PADDING and _is_zeros(file, end, size):
            size = end
        if end == size:
            break
        following = end if begins[-1] < end < size and _kind_at(file, end) else _next(file, kind, begins[-1], size)
        if following >= size:
            break
        begins.append(following)
    parts = [(begin, _before_tags(file, begin, end)) for begin, end in zip(begins, [*begins[1:], size], strict=True)]
    file.seek(0)
    return parts


def _kind_at(file: io.BufferedIOBase, place: int) -> _Kind | None:
    head = at(file, place, LONGEST_HEADER)
    return next((kind for kind in _KINDS if kind.header.match(head)), None)


def _next(file: io.BufferedIOBase, kind: _Kind, begin: int, size: int) -> int:
    """Where the next header of this kind lies behind the one at ``begin``, ``size`` where there is none."""
    place, held, length = begin + 1, b"", PADDING >> 4  # small at first: there may be many short files
    file.seek(place)
    while piece := file.read(min(length, size - place - len(held))):
        length = min(CHUNK, 2 * length)
        held += piece
        if found := kind.header.search(held):
            return place + found.start()
        place, held = place + max(0, len(held) - LONGEST_HEADER), held[-LONGEST_HEADER:]
    return size


def _is_zeros(file: io.BufferedIOBase, place: int, size: int) -> bool:
    """Whether nothing but zeros lies between a place and the end of a file."""
    file.seek(place)
    while place < size:
        piece = file.read(CHUNK)
        if not piece or piece.strip(b"\0"):
            return not piece
        place += len(piece)
    return True


def behind_tags(file: io.BufferedIOBase, size: int) -> int:
    """Where a recording begins behind the ID3 tags that players put before any format."""
    place = 0
    for _ in range(MOST_ELEMENTS):
        head = at(file, place, 10)
        if head[:3] != b"ID3" or len(head) < 10 or max(head[6:]) > 0x7F:
            break
        length = sum(byte << 7 * (3 - number) for number, byte in enumerate(head[6:]))
        end = place + 10 + length + (10 if head[5] & 0x10 else 0)
        if end >= size:
            break
        place = end
    return place


def _before_tags(file: io.BufferedIOBase, begin: int, end: int) -> int:
    """Where the recording in a part of a file ends before the ID3 and APE tags that players put behind any format."""
    for _ in range(MOST_ELEMENTS):
        last = at(file, max(begin, end - ID3_LENGTH), min(ID3_LENGTH, end - begin))
        footer = last[-APE_FOOTER:]
        if len(last) == ID3_LENGTH and last.startswith(b"TAG"):
            length = ID3_LENGTH
        elif footer.startswith(b"APETAGEX") and len(footer) == APE_FOOTER:
            with_header = footer[23] & 0x80
            length = int.from_bytes(footer[12:16], "little") + (APE_FOOTER if with_header else 0)
        else:
            break
        if not APE_FOOTER <= length < end - begin:
            break
        end -= length
    return end


def _chunks_end(file: io.BufferedIOBase, place: int, size: int) -> int:
    """The end of a RIFF, FORM or MMMD, whose length stands in bytes 4 to 8."""
    head = at(file, place, 8)
    length = int.from_bytes(head[4:], "little" if head[:4] == b"RIFF" else "big")
    return place + 8 + length + (length % 2 if head[:4] != b"MMMD" else 0)


def _rf64_end(file: io.BufferedIOBase, place: int, size: int) -> int:
    length = int.from_bytes(at(file, place + 20, 8), "little")  # behind the head of the chunk ds64
    return place + 8 + length + length % 2


def _w64_end(file: io.BufferedIOBase, place: int, size: int) -> int:
    length = int.from_bytes(at(file, place + 16, 8), "little")
    return place + length + -length % 8


def _au_end(file: io.BufferedIOBase, place: int, size: int) -> int:
    begin, length = (int.from_bytes(at(file, place + number, 4), "big") for number in (4, 8))
    return size + 1 if length == UNKNOWN_32 else place + begin + length


def _last(parts: Callable[[io.BufferedIOBase, int, int], Iterator[int]], magic: bytes, offset: int = 0) -> End:
    """The end of a file that is a row of parts: of the one before another such file, else of the last."""

    def end(file: io.BufferedIOBase, place: int, size: int) -> int:
        last = 0
        for last in parts(file, size, place):
            if at(file, last + offset, len(magic)) == magic:
                break
        return last

    return end


def _kind(pattern: bytes, end: End | None = None) -> _Kind:
    return _Kind(re.compile(pattern, re.DOTALL), end)


_INITIAL = b"[" + b"".join(re.escape(bytes([each])) for each in range(256) if each & 8) + b"]"
"""The byte of WavPack's flags that says: a block of the first channels."""

_KINDS: Sequence[_Kind] = (
    _kind(rb"RIF[FX]....(?:WAVE|QLCM)", _chunks_end),
    _kind(rb"FORM....(?:AIF[FC]|8SVX|16SV)", _chunks_end),
    _kind(rb"RF64\xff\xff\xff\xffWAVE", _rf64_end),
    _kind(rb"BW64\xff\xff\xff\xffWAVE", _rf64_end),
    _kind(rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb", _w64_end),  # Wave64
    _kind(rb"\0\0..ftyp[ -~]{4}", _last(boxes, b"ftyp", 4)),  # MP4
    _kind(re.escape(EBML) + rb".{1,8}B[\x82\x85-\x87\xf2\xf3\xf7]", _last(elements, EBML)),  # Matroska, WebM
    _kind(rb"caff\0\x01\0\0", _last(caf_chunks, b"caff")),
    _kind(rb"\.snd\0\0......\0\0\0[\x01-\x1b]\0...\0\0", _au_end),
    _kind(rb"MMMD....CNTI", _chunks_end),
    # WavPack's block of the first channels, at sample 0 and not empty
    _kind(rb"wvpk....[\x02-\x10]\x04\0.....\0\0\0\0(?!\0\0\0\0)....." + _INITIAL),
    _kind(rb"TTA1[\x01-\x03]\0[\x01-\x20]\0[\x08\x10\x18\x20]\0...\0"),
    _kind(re.escape(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"))),  # Windows Media
    _kind(re.escape(bytes.fromhex("b7d800203749da11a64e0007e95ead8d"))),  # WTV
    _kind(rb"Creative Voice File\x1a"),
    _kind(rb"FLV\x01[\0-\x05]\0\0\0\x09\0\0\0\0"),
    _kind(rb"#!AMR(?:-WB)?(?:_MC1\.0)?\n"),
    _kind(rb"\x80\0..[\x02-\x05]\x12\x04[\x01-\x08]\0[\0-\x02].."),  # ADX
    _kind(rb"\.RMF\0\0\0\x12\0[\0\x01]\0\0"),
    _kind(rb"nut/multimedia container\0"),
    _kind(rb"NIST_1A\n {3}\d{4}\n"),
    _kind(rb" paf\0\0\0\0\0\0\0"),
    _kind(rb"PVF1\n\d+ \d+ \d+\n"),
    _kind(rb"2BIT.{8}(?:\0\0|\xff\xff)\0[\x08\x10](?:\0\0|\xff\xff)"),  # AVR
    _kind(rb"\.SoX..\0\0.{6}\0\0"),
    _kind(rb"XoS\.\0\0..\0\0"),
    _kind(rb"\x64\xa3[\x01-\x04]\0...[D-H][\x01-\x08]\0\0\0"),  # IRCAM
    _kind(rb"\xf0\x7e.\x01..[\x08-\x1c].{13}\xf7"),  # Sample Dump
    _kind(rb"ALawSoundFile\*\*\0"),
    _kind(rb"Extended Instrument: "),
    _kind(rb"MAC .\x0f\0\0\x34\0\0\0"),  # Monkey's Audio
    _kind(rb"tBaK\x01.\0\0"),
    _kind(rb"MPCKSH[\x08-\x20]....\x08"),
    _kind(rb"TWIN97012000"),
    _kind(rb"DSD \x1c\0\0\0\0\0\0\0"),
    _kind(rb"DTSHDHDR\0\0\0\0"),
)
