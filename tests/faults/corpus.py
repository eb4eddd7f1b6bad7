"""Damaged files of every kind, made on the spot: for each modality sound ones, and those that no reader may take."""

from __future__ import annotations

import functools
import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np
import soundfile
from PIL import Image

from tests.plugins.video.films import film, only_sound

SIDE = 64
RATE = 16_000


@functools.cache
def sound_files() -> dict[str, dict[str, bytes]]:
    """Skill -> suffix -> a file that can be read."""
    sounds = {format: recording(format) for format in ("WAV", "FLAC", "MP3", "OGG")}
    return {
        "image": {f".{kind.lower().replace('jpeg', 'jpg')}": picture(kind) for kind in ("PNG", "JPEG", "WEBP")},
        "sound": {f".{format.lower()}": content for format, content in sounds.items()},
        "video": {".mp4": clip("mp4", "libx264"), ".webm": clip("webm", "libvpx"), ".gif": clip("gif", "gif")},
        "text": {".txt": "一句话。".encode()},
        "code": {".py": "def 甲():\n    return 1\n".encode()},
    }


@functools.cache
def damaged_files() -> dict[str, dict[str, tuple[bytes, str]]]:
    """Skill -> what is wrong -> the file and its suffix."""
    found: dict[str, dict[str, tuple[bytes, str]]] = {}
    for skill, files in sound_files().items():
        there = found.setdefault(skill, {})
        if skill in ("image", "sound", "video"):
            for suffix, content in files.items():
                there |= {f"{suffix[1:]} {how}": (bad, suffix) for how, bad in spoil(content).items()}
        there |= SPECIAL[skill]()
    return {skill: {name: bad for name, bad in there.items() if name not in STREAMS} for skill, there in found.items()}


def broken_streams() -> dict[str, dict[str, bytes]]:
    """Skill -> what is wrong -> a file of :data:`STREAMS`."""
    spoilt = {
        skill: {f"{suffix[1:]} {how}": bad for suffix, each in files.items() for how, bad in spoil(each).items()}
        for skill, files in sound_files().items()
    }
    return {skill: {name: bad for name, bad in there.items() if name in STREAMS} for skill, there in spoilt.items()}


STREAMS = {"mp3 without its beginning"}
STREAMS |= {
    f"{kind} {how}" for kind in ("webm", "gif", "wav", "flac", "mp3") for how in ("cut in half", "cut near its end")
}
"""What is there is read: of formats made for streams, which do not say how long they are, and of all sound."""


def spoil(content: bytes) -> Mapping[str, bytes]:
    """What happens to a file of any kind."""
    draw = random.Random(len(content))
    return {
        "of no bytes": b"",
        "of one byte": content[:1],
        "cut after its first bytes": content[:12],
        "cut in half": content[: len(content) // 2],
        "cut near its end": content[: len(content) * 9 // 10],
        "of zeros": bytes(len(content)),
        "of noise": draw.randbytes(len(content)),
        "without its beginning": content[len(content) // 2 :],
        "that is a page": b"<!doctype html><title>404 Not Found</title>" + b"<p>gone</p>" * 99,
        "that is an archive": packed(b"a file within " * 99),
    }


def packed(content: bytes) -> bytes:
    """A zip with the file in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("file"), content)
    return file.getvalue()


def picture(kind: str, mode: str = "RGB", side: int = SIDE) -> bytes:
    """A picture full of detail."""
    pixels = np.random.default_rng(1).integers(0, 255, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def recording(format: str, seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> bytes:
    """A tone."""
    wave = np.sin(np.arange(int(seconds * rate)) / 9).astype(np.float32) / 2
    file = io.BytesIO()
    soundfile.write(file, np.stack([wave] * channels, axis=1), rate, format=format)
    return file.getvalue()


def clip(format: str, codec: str) -> bytes:
    """A second of noise."""
    frames = np.random.default_rng(2).integers(0, 255, (8, SIDE, SIDE, 3), np.uint8)
    return film(iter(frames), 8, format, codec)


def patched(content: bytes, at: int, new: bytes) -> bytes:
    """The same with some bytes replaced."""
    return content[:at] + new + content[at + len(new) :]


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG that claims a size, and holds what it likes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG whose frame header claims a size."""
    content = picture("JPEG")
    return patched(content, content.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def _pictures() -> dict[str, tuple[bytes, str]]:
    whole = picture("PNG")
    return {
        "png that is a bomb": (png(60_000, 60_000), ".png"),
        "png of no width": (png(0, 10), ".png"),
        "png of too few rows": (png(SIDE, SIDE, bytes(100)), ".png"),
        "png garbled in the middle": (patched(whole, len(whole) // 2, b"\xff" * 400), ".png"),
        "png with a wrong checksum": (patched(whole, 30, b"\0\0"), ".png"),
        "jpg that is a bomb": (jpeg_of_size(65_500, 65_500), ".jpg"),
        "jpg of no height": (jpeg_of_size(10, 0), ".jpg"),
        "webp that is a bomb": (webp_of_size(16_383, 16_383), ".webp"),
        "clip called jpg": (sound_files()["video"][".mp4"], ".jpg"),
        "drawing in SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', ".png"),
    }


def webp_of_size(width: int, height: int) -> bytes:
    """A WebP, extended format, whose canvas claims a size."""
    body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    inner = b"WEBPVP8X" + struct.pack("<I", 10) + body + picture("WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(inner)) + inner


def _recordings() -> dict[str, tuple[bytes, str]]:
    whole = recording("WAV")
    nan = io.BytesIO()
    soundfile.write(nan, np.full(RATE, np.nan, np.float32), RATE, "FLOAT", format="WAV")
    return {
        "wav without samples": (recording("WAV", seconds=0), ".wav"),
        "wav too short for a frame": (recording("WAV", seconds=0.01), ".wav"),
        "wav of no rate": (patched(whole, 24, bytes(4)), ".wav"),
        "wav of a rate beyond all sense": (patched(whole, 24, b"\xff\xff\xff\x7f"), ".wav"),
        "wav of no channels": (patched(whole, 22, bytes(2)), ".wav"),
        "wav of 65,535 channels": (patched(whole, 22, b"\xff\xff"), ".wav"),
        "wav of an unknown kind": (patched(whole, 20, b"\xfe\xca"), ".wav"),
        "wav of what are no numbers": (nan.getvalue(), ".wav"),
        "play list called mp3": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", ".mp3"),
        "picture called wav": (picture("PNG"), ".wav"),
        "silent film": (sound_files()["video"][".mp4"], ".mp3"),
        "transcript called flac": ("你好".encode(), ".flac"),
    }


def _clips() -> dict[str, tuple[bytes, str]]:
    whole = clip("mp4", "libx264")
    return {
        "mp4 without pictures": (only_sound(), ".mp4"),
        "mp4 of no frames": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\0\x08mdat", ".mp4"),
        "mp4 whose table is noise": (patched(whole, whole.index(b"moov") + 8, random.Random(3).randbytes(200)), ".mp4"),
        "mp4 of an unknown codec": (whole.replace(b"avc1", b"xyz1"), ".mp4"),
        "mp4 without its table": (whole.replace(b"moov", b"junk"), ".mp4"),
        "play list called mp4": (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n", ".mp4"),
        "list of files called mp4": (b"ffconcat version 1.0\nfile '/etc/passwd'\n", ".mp4"),
        "recording called mp4": (recording("WAV"), ".mp4"),
        "text called mp4": ("片段".encode() * 99, ".mp4"),
    }


def _texts() -> dict[str, tuple[bytes, str]]:
    return {
        "of no bytes": (b"", ".txt"),
        "of white space": (" \n\t　\r\n".encode(), ".txt"),
        "cut within a character": ("一句话".encode()[:-1], ".txt"),
        "in Latin-1": ("déjà vu".encode("latin-1"), ".txt"),
        "with half a surrogate": (b"a\xed\xa0\x80b", ".txt"),
        "that is packed": (gzip.compress("一句话".encode()), ".txt"),
        "that is a picture": (picture("PNG"), ".txt"),
        "that is an archive": (packed(b"a file within " * 99), ".txt"),
        "that is a recording": (recording("WAV"), ".txt"),
        "that is a document": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n" + bytes(99), ".txt"),
        "of noise": (random.Random(1).randbytes(3_000), ".txt"),
        "of an overlong form": (b"\xc0\xaf\xe0\x80\xaf", ".txt"),
    }


def _codes() -> dict[str, tuple[bytes, str]]:
    return {f"code {name}": (content, ".py") for name, (content, _) in _texts().items()}


SPECIAL = {"image": _pictures, "sound": _recordings, "video": _clips, "text": _texts, "code": _codes}
