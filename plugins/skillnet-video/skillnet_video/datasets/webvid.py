"""``webvid``: two and a half million clips of the web with English captions (WebVid-2M), captions translated.

The tables have the columns ``videoid``, ``contentUrl``, ``duration``, ``page_dir`` and ``name``. Of every clip the
first ten seconds are kept, three frames a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import PurePosixPath

from skillnet_cli.data.format import Rejection
from skillnet_cli.prepare.linked import Linked, Media
from skillnet_cli.prepare.preparer import Kept
from skillnet_cli.prepare.translation import Translation, translation_of, why_poor
from skillnet_cli.sources.rows import Row
from skillnet_video import SUFFIXES
from skillnet_video.recoding import Recoding, recoding_of

TRANSLATED, POOR = "text", "why not"
"""What is added to a row's cells."""


class Webvid(Linked):
    """Clips and their captions; ``results_2M_val.csv`` becomes ``validation``."""

    columns = ("videoid", "contentUrl", "page_dir", "name")
    link = "contentUrl"
    own_files = "videos"
    suffixes = SUFFIXES
    most_bytes = 128 << 20

    def setup(self) -> None:
        """Check this set's own options too."""
        self._recoding, self._translation  # noqa: B018 - they raise if an option is not usable
        super().setup()

    def split_of(self, file: str) -> str:
        """By the file's name."""
        return "validation" if "val" in PurePosixPath(file).stem.lower() else "train"

    def id(self, file: str, row: Row) -> str:
        """The clip's number."""
        return row.cells.get("videoid", "").strip() or super().id(file, row)

    def whole_range(self, rows: Iterable[Row]) -> Iterable[Row]:
        """The rows with their captions translated, many at a time."""
        if self._translation is None:
            return rows
        listed = list(rows)
        captions = [row.cells.get("name", "") for row in listed]
        translated = self._translation.translate(captions)
        return [_with(*each) for each in zip(listed, captions, translated, strict=True)]

    def rejection(self, row: Row) -> tuple[Rejection, str] | None:
        """Rows without a caption, or without a usable translation."""
        if not row.cells["name"].strip():
            return "damaged", "it has no caption"
        return ("filtered", row.cells[POOR]) if POOR in row.cells else None

    def places(self, file: str, row: Row) -> Sequence[str]:
        """The customary name of a fetched clip, ``PAGE_DIR/VIDEOID.mp4``, or its number alone."""
        number = row.cells["videoid"].strip()
        return f"{row.cells['page_dir'].strip()}/{number}".lstrip("/"), number

    def converted(self, content: bytes) -> Media:
        """The clip made small."""
        return self._recoding.clip(content)

    def item(self, split: str, id: str, row: Row, media: Media) -> Kept:
        """The clip, its caption, and where it came from."""
        text = row.cells.get(TRANSLATED, row.cells["name"]).strip()
        return Kept(split, id, {"text": [text], "url": row.cells["contentUrl"].strip()}, {"video": media})

    @cached_property
    def _recoding(self) -> Recoding:
        return recoding_of(self.job)

    @cached_property
    def _translation(self) -> Translation | None:
        return translation_of(self.job)


def _with(row: Row, caption: str, translated: str | None) -> Row:
    """A row with its caption's translation, or with why there is none."""
    why = why_poor(caption, translated) if caption.strip() else None
    added = {POOR: why} if why else {TRANSLATED: translated or ""}
    return replace(row, cells={**row.cells, **added})
