"""``vatex``: ten seconds of video with ten Chinese captions each (and ten English ones, which are not used).

The publisher's splits are ``train`` and ``validation``. The paper's test set is 1,500 clips of validation at random,
``dev`` the rest; which clips they are follows from the seed, and ``assets/test.txt`` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.prepare.preparer import Items, Kept, PoolSplit, Preparer, Range, Rejected, Summary, checksum, divide
from skillnet_cli.prepare.translation import Translation, open_translation, why_poor
from skillnet_cli.sources.archives import DeepFileTree
from skillnet_cli.sources.http import Unavailable
from skillnet_cli.sources.members import Member
from skillnet_cli.sources.tables import Pieces, read_list
from skillnet_video import SUFFIXES
from skillnet_video.datasets.youtube import youtube_of
from skillnet_video.recoding import Recoding, recoding_of

FILES = {"train": "*vatex_training*.json", "validation": "*vatex_validation*.json"}
PAPER = {"test": 1_500, "dev": 1_209}
PIECE = 50
"""Clips a range: what a kill costs while they are fetched."""

_ID = re.compile(r"(.+)_(\d{6})_(\d{6})")
"""The video's id, and the seconds at which the clip begins and ends."""


class Vatex(Preparer):
    """A range is a piece of the captions; a last one counts the clips that have none."""

    pools: Mapping[str, tuple[str, ...]] = {"validation": ("test", "dev")}

    def setup(self) -> None:
        """Write the captions in pieces, and check the options and what they need."""
        self.files.one(*FILES.values())
        for split, pattern in FILES.items():
            there = self.files.named(pattern)
            if there:
                self._pieces(split).write(read_list(there[0]))
            else:
                self.job.say(f"vatex: there is no {pattern}: prepared without {split}")
        if self._youtube is None and not self._clips:
            raise UserError("vatex: there are no clips: name their folder with --videos, or fetch them with --download")
        self._translation  # noqa: B018 - raises if the translator is not usable

    def ranges(self) -> Sequence[Range]:
        """The pieces in order, train first."""
        found = [
            Range(f"{split}-{number:06d}", [split, number, self._whose(entries)], (split,))
            for split in FILES
            for number, entries in enumerate(self._pieces(split))
        ]
        return [*found, Range("clips without captions", ["", None, checksum(sorted(self._clips))])]

    def _whose(self, entries: Sequence[Any]) -> str:
        """Which clip is whose, so that one that has come or gone since makes another range."""
        stems = [stem for entry in entries if (name := _name_of(entry)) for stem in (name, _ID.sub(r"\1", name))]
        return checksum([self._clips[stem].name for stem in stems if stem in self._clips])

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        """An item for every entry, or for every clip that has none."""
        split, piece, _ = range.payload
        if piece is None:
            yield from self._without_captions()
            return
        entries = self._pieces(split)[piece]
        chinese = self._translated(entries)
        for number, entry in enumerate(entries, PIECE * piece):
            yield self._item(split, number, entry, chinese)

    def large_enough(self, sizes: Mapping[str, int]) -> bool:
        """Whether validation has the paper's test set and more."""
        return sizes.get("validation", 0) > PAPER["test"]

    def split(self, pool: str, size: int, protocol: str | None) -> PoolSplit | None:
        """The paper's 1,500 at random and the rest, or in the paper's proportion where there are no more."""
        if protocol != "paper":
            return None
        sizes = {"test": PAPER["test"]} if size > PAPER["test"] else PAPER
        return PoolSplit(divide(size, sizes, rest="dev"))

    def finish(self, items: Items, protocol: str | None) -> Summary:
        """Which clips are the test set."""
        test = [item.id for item in items if item.split == "test"]
        return Summary(assets={"test.txt": "".join(f"{id}\n" for id in test).encode()} if test else {})

    def _item(self, split: str, number: int, entry: Any, chinese: Mapping[str, str | None]) -> Kept | Rejected:
        id = _name_of(entry) or f"{split}-{number:06d}"
        try:
            if _name_of(entry) is None:
                raise DamagedItem("the entry names no clip")
            captions = _texts_of(entry, "chCap") or list(filter(None, map(chinese.get, _texts_of(entry, "enCap"))))
            if not captions and _texts_of(entry, "enCap"):
                return Rejected(split, id, "filtered", "it has no Chinese caption, and no translation of use")
            if not captions:
                raise DamagedItem("it has no caption")
            return Kept(split, id, {"text": captions}, {"video": self._clip(id)})
        except Unavailable as error:
            return Rejected(split, id, "unavailable", str(error))
        except DamagedItem as error:
            return Rejected(split, id, "damaged", str(error))

    def _clip(self, id: str) -> tuple[bytes, str]:
        """The clip from where it lies, whole or within its video, or from the web."""
        parts = _ID.fullmatch(id)
        if id in self._clips:
            return self._recoding.clip(self._clips[id].read())
        if parts and parts[1] in self._clips:
            return self._recoding.clip(self._clips[parts[1]].read(), float(parts[2]))
        if self._youtube is None:
            raise Unavailable("there is no file of it")
        if not parts or int(parts[3]) <= int(parts[2]):
            raise DamagedItem("its id names no video with the seconds of a beginning and an end")
        return self._youtube.clip(parts[1], float(parts[2]), float(parts[3]))

    def _translated(self, entries: Sequence[Any]) -> dict[str, str | None]:
        """English caption -> Chinese one, for the entries without any; None where it is of no use."""
        if self._translation is None:
            return {}
        wanted = [text for entry in entries if not _texts_of(entry, "chCap") for text in _texts_of(entry, "enCap")]
        found = zip(wanted, self._translation.translate(wanted), strict=True)
        return {text: None if why_poor(text, chinese) else chinese for text, chinese in found}

    def _pieces(self, split: str) -> Pieces:
        return Pieces(self.folder, split, PIECE)

    def _without_captions(self) -> Iterator[Kept | Rejected]:
        pieces = (entries for split in FILES for entries in self._pieces(split))
        named = {name for entries in pieces for entry in entries if (name := _name_of(entry))}
        named |= {parts[1] for parts in map(_ID.fullmatch, named) if parts}
        for stem, leaf in self._clips.items():
            if stem not in named:
                yield Rejected("", leaf.name, "filtered", "no caption names this clip")

    @cached_property
    def _clips(self) -> dict[str, Member]:
        """Name without suffix -> clip; where a name comes twice, the first."""
        place = self.job.options.get("videos")
        if place and not place.exists():
            raise UserError(f"--videos: '{place}': no such folder or archive")
        tree = DeepFileTree([place], self.folder / "videos") if place else self.files
        found: dict[str, Member] = {}
        for leaf in tree.members:
            path = PurePosixPath(leaf.name)
            if path.suffix.lower() in SUFFIXES:
                found.setdefault(path.stem, leaf)
        return found

    @cached_property
    def _recoding(self) -> Recoding:
        return recoding_of(self.job)

    @cached_property
    def _youtube(self) -> Any:
        return youtube_of(self.job, self._recoding)

    @cached_property
    def _translation(self) -> Translation | None:
        named = self.job.options.get("translator") or "none"
        if named == "none" and self.job.options.get("translate"):
            named = "marian"
        return open_translation(named, self.job.cache, self.job.registry)


def _name_of(entry: Any) -> str | None:
    """The name of an entry's clip, if it has one."""
    name = entry.get("videoID") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and name else None


def _texts_of(entry: Any, key: str) -> list[str]:
    """The captions that an entry has under ``key``."""
    captions = entry.get(key) if isinstance(entry, dict) else None
    texts = [text.strip() for text in captions if isinstance(text, str)] if isinstance(captions, list) else []
    return [text for text in texts if text]
