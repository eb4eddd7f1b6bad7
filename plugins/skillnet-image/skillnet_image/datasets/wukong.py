"""``wukong``: a hundred million pictures of the web with Chinese captions (Noah-Wukong).

The release is CSV files with the columns ``url`` and ``caption``, that of its test set has ``dir``, a path, and
``caption``. What the paper leaves out of them is left out here, and every picture is made small and encoded anew.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

from skillnet_cli.data.format import Rejection
from skillnet_cli.prepare.linked import Linked, Media
from skillnet_cli.prepare.preparer import Kept
from skillnet_cli.sources.rows import Row
from skillnet_image import SUFFIXES
from skillnet_image.datasets.options import side_of
from skillnet_image.pictures import made_small

SHORTEST = 4
"""Characters."""
ILLEGAL_SHARE = 0.2
"""Of all characters but spaces."""

_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")
_LEGAL_CLASSES = ("L", "M", "N", "P", "Sc", "Zs")
_MARKUP = frozenset("<>{}[]|\\^`~=_")

NAMES = ("file", "filename", "path", "dir", "image")
"""Columns that may hold the path of a row's picture below ``--images``."""


class Wukong(Linked):
    """Pictures and their captions; ``wukong_test.csv`` becomes ``test``, all others train."""

    columns = ("url", "caption")
    link = "url"
    own_files = "images"
    suffixes = (*SUFFIXES, ".gif")
    most_bytes = 16 << 20

    def setup(self) -> None:
        """Check this set's own option too."""
        side_of(self.job)
        super().setup()

    def needed(self, columns: Sequence[str]) -> Sequence[str]:
        """Addresses are needed where pictures are fetched, and where no column says how they are called."""
        named = self.job.options.get("images") and not set(NAMES).isdisjoint(columns)
        return ("caption",) if named else self.columns

    def split_of(self, file: str) -> str:
        """By the file's name."""
        return "test" if "test" in PurePosixPath(file).stem.lower() else "train"

    def rejection(self, row: Row) -> tuple[Rejection, str] | None:
        """The paper's rules for captions."""
        reason = reason_against(row.cells["caption"])
        return ("filtered", reason) if reason else None

    def places(self, file: str, row: Row) -> Sequence[str]:
        """The path in one of the columns, or the numbers of table and row, both from 0, as in ``003/00017``.

        The latter is where the publisher's own script puts what it fetches.
        """
        named = next((row.cells[name] for name in NAMES if row.cells.get(name)), None)
        number = re.search(r"\d+$", PurePosixPath(file).stem)
        return (named or f"{int(number[0]) if number else 0:03d}/{row.number - 1:05d}",)

    def converted(self, content: bytes) -> Media:
        """The picture made small."""
        return made_small(content, side_of(self.job) or 256)

    def item(self, split: str, id: str, row: Row, media: Media) -> Kept:
        """The picture, its caption, and where it came from."""
        url = {"url": row.cells["url"].strip()} if "url" in row.cells else {}
        return Kept(split, id, {"text": [row.cells["caption"].strip()], **url}, {"image": media})


def reason_against(caption: str) -> str | None:
    """Why a caption is left out, or None: the paper's three rules (appendix), in numbers.

    The paper leaves out captions "with no Chinese words, too many illegal symbols", and shorter than 4.
    """
    caption = caption.strip()
    if len(caption) < SHORTEST:
        return f"the caption is shorter than {SHORTEST} characters"
    if not _CHINESE.search(caption):
        return "the caption has no Chinese words"
    visible = [character for character in caption if not character.isspace()]
    if sum(map(_is_illegal, visible)) > ILLEGAL_SHARE * len(visible):
        return f"more than {ILLEGAL_SHARE:.0%} of the caption are illegal symbols"
    return None


def _is_illegal(character: str) -> bool:
    """Markup, emoji and other pictures, control characters, and what stands for unreadable ones."""
    return character in _MARKUP or not unicodedata.category(character).startswith(_LEGAL_CLASSES)
