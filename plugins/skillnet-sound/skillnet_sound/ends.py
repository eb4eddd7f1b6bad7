"""Whether the file of a recording ends before it should: what its own headers say against what is there.

FFmpeg reads what is there and does not say. Where nothing in a file says how long it is, nothing can be known.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence

UNKNOWN_32 = 2**32 - 1
UNKNOWN_STREAMED = 2**31 - 2**16
"""Recorders that write into a pipe do not know a RIFF's size, and announce about the largest: this or more."""

MOST_ELEMENTS = 100_000
"""Boxes, chunks or elements that are looked at."""

HEADER = 4096
"""Bytes at the beginning of a file in which it says how long it is."""

SEGMENT, CLUSTER = 0x18538067, 0x1F43B675
EBML = b"\x1aE\xdf\xa3"
LAST_PAGES = 2**17
"""Bytes at the end of an Ogg file that hold its last page: one has at most 65,307."""


def breaks_off(file: io.BufferedIOBase) -> bool:
    """Whether the file's own structure reaches beyond its end. Formats that have none to ask are taken for whole."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(16)
    for place, signatures, test in _STRUCTURES:
        if head[place:].startswith(signatures):
            return test(file, size)
    return False


def _reaches_beyond(
    ends: Callable[[io.BufferedIOBase, int], Iterator[int]],
) -> Callable[[io.BufferedIOBase, int], bool]:
    return lambda file, size: any(end > size for end in ends(file, size))


def _chunks_break_off(file: io.BufferedIOBase, size: int) -> bool:
    """A RIFF or FORM: the chunk with the samples is what counts, since headers of the whole are often wrong."""
    head = at(file, 0, 12)
    order: str = "big" if head[:4] in (b"RIFX", b"FORM") else "little"
    if head[8:12] == b"AVI ":
        announced = 8 + int.from_bytes(head[4:8], "little")
        return size < announced < UNKNOWN_STREAMED
    place, large = 12, 0
    for _ in range(MOST_ELEMENTS):
        file.seek(place)
        chunk = file.read(8)
        if len(chunk) < 8:
            return False
        length = int.from_bytes(chunk[4:], order)  # type: ignore[arg-type]
        if chunk[:4] == b"ds64":
            file.seek(place + 16)
            large = int.from_bytes(file.read(8), "little")
        if chunk[:4] in (b"data", b"SSND", b"BODY"):
            if length == UNKNOWN_32 and large:
                length = large
            elif length >= UNKNOWN_STREAMED:
                return False
            return place + 8 + length > size
        place += 8 + length + length % 2
    return False


def boxes(file: io.BufferedIOBase, size: int, place: int = 0) -> Iterator[int]:
    """Where each box of an MP4 ends, from the one at ``place`` on."""
    for _ in range(MOST_ELEMENTS):
        head = at(file, place, 16)
        if not head:
            return
        length, extended = int.from_bytes(head[:4], "big"), int.from_bytes(head[8:16], "big")
        length = extended if length == 1 else length
        if length == 0:  # to the end of the file
            return
        place += length if len(head) >= 8 else 8
        yield place
        if length < 8:
            return


def caf_chunks(file: io.BufferedIOBase, size: int, place: int = 0) -> Iterator[int]:
    """Where each chunk of a CAF ends, of the one that begins at ``place``."""
    place += 8
    for _ in range(MOST_ELEMENTS):
        file.seek(place)
        head = file.read(12)
        length = int.from_bytes(head[4:12], "big", signed=True)
        if len(head) < 12 or length < 0:  # -1: to the end of the file
            return
        place += 12 + length
        yield place


def _ogg_breaks_off(file: io.BufferedIOBase, size: int) -> bool:
    """The last page is not whole, or is not marked as the last one of its stream."""
    file.seek(max(0, size - LAST_PAGES))
    tail = file.read()
    place = tail.rfind(b"OggS")
    while place >= 0:
        page = tail[place:]
        if len(page) < 27:
            return True
        segments = page[27 : 27 + page[26]]
        if page[4] == 0:  # else the four letters belong to a packet
            return len(segments) < page[26] or len(page) < 27 + page[26] + sum(segments) or not page[5] & 4
        place = tail.rfind(b"OggS", 0, place)
    return False


def elements(file: io.BufferedIOBase, size: int, place: int = 0) -> Iterator[int]:
    """Where the elements of a Matroska file end, from the one at ``place`` on.

    Those of unknown length, as in a live stream, are gone into.
    """
    for _ in range(MOST_ELEMENTS):
        if place >= size:
            return
        file.seek(place)
        head = file.read(12)
        id_width = 9 - head[0].bit_length() if head[0] else 9
        if id_width > 4 or len(head) <= id_width or not head[id_width]:
            yield size + 1 if len(head) < 12 else size
            return
        width = 9 - head[id_width].bit_length()
        number = head[id_width : id_width + width]
        length = int.from_bytes(number, "big") & ((1 << 7 * width) - 1)
        name, begin = int.from_bytes(head[:id_width], "big"), place + id_width + width
        unknown = length == (1 << 7 * width) - 1
        if len(number) < width:
            yield size + 1
            return
        if not unknown:
            yield begin + length
        place = begin if unknown and name in (SEGMENT, CLUSTER) else size if unknown else begin + length


def _objects(file: io.BufferedIOBase, size: int) -> Iterator[int]:
    """Where each object of a Windows Media file ends, up to the data of a live stream, which are said to be none."""
    place = 0
    for _ in range(MOST_ELEMENTS):
        head = at(file, place, 24)
        length = int.from_bytes(head[16:], "little")
        if length < 24 or (head[:4] == b"6&\xb2u" and length <= 50):
            return
        place += length
        yield place


def _flv_breaks_off(file: io.BufferedIOBase, size: int) -> bool:
    """The size that the file says it has is another, or that behind the last tag is not the one that the tag has."""
    head = at(file, 0, HEADER)
    stated = head.find(b"filesize\0")
    if stated >= 0 and size < struct.unpack(">d", head[stated + 9 : stated + 17].ljust(8, b"\0"))[0]:
        return True
    length = int.from_bytes(at(file, max(0, size - 4), 4), "big")
    if not 11 <= length <= size - 4:
        return True
    return int.from_bytes(at(file, size - 4 - length + 1, 3), "big") != length - 11


def _program_stream_breaks_off(file: io.BufferedIOBase, size: int) -> bool:
    """A packet at the end reaches beyond it, from the last pack header on."""
    tail = at(file, max(0, size - LAST_PAGES), LAST_PAGES)
    place = tail.rfind(b"\x00\x00\x01\xba")
    while 0 <= place < len(tail):
        head = tail[place : place + 14]
        if len(head) < 6:
            return True
        if head[:3] != b"\x00\x00\x01":
            return False
        if head[3] == 0xBA:
            second = head[4] & 0xC0 == 0x40
            place += 14 + (head[13] & 7 if len(head) == 14 else 0) if second else 12
        else:
            place += 4 if head[3] == 0xB9 else 6 + int.from_bytes(head[4:6], "big")
    return place > len(tail)


def _transport_stream_breaks_off(file: io.BufferedIOBase, size: int) -> bool:
    """The last packet is not whole: packets have one size, and begin with a G."""
    head = at(file, 0, 3 * 204)
    for length, first in ((188, 0), (192, 4), (204, 0)):
        if head[first::length][:3] == b"GGG":
            return size % length != 0
    return False


def _sox_breaks_off(file: io.BufferedIOBase, size: int) -> bool:
    """SoX's own format states its samples, 0 where a pipe kept it from knowing."""
    head = at(file, 0, 16)
    order: str = "little" if head[:1] == b"." else "big"
    header, samples = (int.from_bytes(each, order) for each in (head[4:8], head[8:16]))  # type: ignore[arg-type]
    return samples > 0 and size < 4 + header + 4 * samples


def _au_breaks_off(file: io.BufferedIOBase, size: int) -> bool:
    """An AU states where its samples begin and how many bytes they are."""
    begin, length = struct.unpack(">II", at(file, 4, 8).ljust(8, b"\0"))
    return bool(length != UNKNOWN_32 and begin + length > size)


def _sample_dump_breaks_off(file: io.BufferedIOBase, size: int) -> bool:
    """A Sample Dump states its samples in three digits of 7 bits; its packets have 127 bytes, 120 of them theirs."""
    head = at(file, 0, 13).ljust(13, b"\0")
    samples = head[10] | head[11] << 7 | head[12] << 14
    in_packet = 120 // max(2, -(-head[6] // 7))
    return size < 21 + 127 * -(-samples // in_packet)


def _states(end: Callable[[bytes], int]) -> Callable[[io.BufferedIOBase, int], bool]:
    """For formats in whose first bytes stands where the samples end."""
    return lambda file, size: end(at(file, 0, HEADER)) > size


def _number(head: bytes, place: int, length: int = 4) -> int:
    return int.from_bytes(head[place : place + length], "big")


def _nist_end(head: bytes) -> int:
    """Of samples that are not compressed."""
    facts = dict(re.findall(rb"^(\w+) -\S+ (\S+)", head, re.MULTILINE))
    size = re.match(rb"NIST_1A\n +(\d+)\n", head)
    if not size or facts.get(b"sample_coding", b"pcm") not in (b"pcm", b"ulaw", b"alaw"):
        return 0
    try:
        counts = [int(facts[name]) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    except (KeyError, ValueError):
        return 0
    return int(size[1]) + math.prod(counts)


def _mxf_end(head: bytes) -> int:
    """A file that was closed says in its first partition where the last one begins."""
    width = head[16] & 0x7F if head[16] & 0x80 else 0  # bytes of the length, which stands behind a key of 16 bytes
    return _number(head, 17 + width + 24, 8) + 1


def _w64_breaks_off(file: io.BufferedIOBase, size: int) -> bool:
    """A Wave64 states its size in 64 bits behind an identifier of 16 bytes, itself included."""
    return 16 <= size < int.from_bytes(at(file, 16, 8), "little") < 2**62


def _voice_blocks(file: io.BufferedIOBase, size: int) -> Iterator[int]:
    """Where each block of a Creative Voice file ends."""
    place = int.from_bytes(at(file, 20, 2), "little")
    for _ in range(MOST_ELEMENTS):
        head = at(file, place, 4)
        if len(head) < 4 or head[0] == 0:  # the end of the last block's list
            return
        place += 4 + int.from_bytes(head[1:], "little")
        yield place


XING_PLACE = 64
"""So many first bytes of an MP3 hold the header with its length: it lies behind 4, and 9 to 32 of side information."""


def _stated_by_xing(file: io.BufferedIOBase) -> int:
    """The bytes that an MP3 says it has, 0 where it does not say."""
    file.seek(0)
    first = file.read(XING_PLACE)
    place = max(first.find(b"Xing"), first.find(b"Info"))
    if place < 0 or len(first) < place + 16:
        return 0
    flags = int.from_bytes(first[place + 4 : place + 8], "big")
    behind = place + (12 if flags & 1 else 8)
    return int.from_bytes(first[behind : behind + 4], "big") if flags & 2 else 0


_COUNTED = ("dtshd", "flac", "wv", "tta", "ape", "tak", "shn", "rm")
"""Formats whose files state their length at the beginning."""


def states_its_length(file: io.BufferedIOBase, format: str) -> bool:
    """Whether FFmpeg's duration of a file of this format is a number that the file states, not an estimate."""
    if format != "mp3":
        return format in _COUNTED
    file.seek(0)
    first = file.read(2048)
    if not any(tag in first for tag in (b"Xing", b"Info", b"VBRI")):
        return False
    size, bytes_stated = file.seek(0, io.SEEK_END), _stated_by_xing(file)
    return not bytes_stated or size <= bytes_stated + bytes_stated // 16  # of a longer one FFmpeg believes nothing


_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")


def is_tag(packet: bytes) -> bool:
    """Whether this is what players write behind MP3s, and what therefore lies between joined ones."""
    return packet.startswith(_TAGS)


def at(file: io.BufferedIOBase, place: int, length: int) -> bytes:
    """What lies there: nothing at a place that only a damaged header has."""
    if place >= 2**63:
        return b""
    file.seek(place)
    return file.read(length)


_STRUCTURES: Sequence[tuple[int, tuple[bytes, ...], Callable[[io.BufferedIOBase, int], bool]]] = (
    (0, (b"RIFF", b"RIFX", b"RF64", b"FORM"), _chunks_break_off),
    (4, (b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"wide", b"free", b"skip"), _reaches_beyond(boxes)),
    (0, (b"OggS",), _ogg_breaks_off),
    (0, (EBML,), _reaches_beyond(elements)),
    (0, (b"caff",), _reaches_beyond(caf_chunks)),
    (0, (b".snd",), _au_breaks_off),
    (0, (b"\xff",), lambda file, size: size < _stated_by_xing(file)),
    (0, (b"riff",), _w64_breaks_off),
    (0, (b"FLV",), _flv_breaks_off),
    (0, (b"\x00\x00\x01\xba",), _program_stream_breaks_off),
    (0, (b".SoX", b"XoS."), _sox_breaks_off),
    (0, (b"Creative Voice F",), _reaches_beyond(_voice_blocks)),
    (0, (b"0&\xb2u\x8ef\xcf\x11",), _reaches_beyond(_objects)),
    (0, (b"MMMD",), _states(lambda head: 8 + _number(head, 4))),
    (0, (b"2BIT",), _states(lambda head: 128 + _number(head, 26) * (_number(head, 14, 2) // 8))),  # AVR
    # ADX has blocks of 32 samples; encoders count up to two that there are not
    (0, (b"\x80\0",), _states(lambda head: 4 + _number(head, 2, 2) + (_number(head, 12) // 32 - 2) * 18 * head[7])),
    (0, (b"ALawSoundFile**\0",), _states(lambda head: 32 + _number(head, 18))),
    (0, (b"NIST_1A",), _states(_nist_end)),
    (0, (b"\x06\x0e+4\x02\x05\x01\x01",), _states(_mxf_end)),
    (0, (b"\xf0\x7e",), _sample_dump_breaks_off),
    (0, (b"G",), _transport_stream_breaks_off),
    (4, (b"G",), _transport_stream_breaks_off),
)
"""Where in the first 16 bytes a format has one of its signatures, and who tells whether such a file breaks off."""
