"""``aic-icc``: pictures with Chinese captions, five each (AI Challenger 2017, image captioning).

A picture and all its captions are one item. The publisher's splits are ``train`` and ``validation``; the test set of
the paper, which is Wukong's, is the first 10,000 pictures of validation in the order of the annotations, and ``dev``
the rest of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from skillnet_cli.api import DamagedItem
from skillnet_cli.prepare.preparer import Items, Kept, PoolSplit, Preparer, Range, Rejected, checksum, divide
from skillnet_cli.sources.members import Member
from skillnet_cli.sources.tables import Pieces, read_list
from skillnet_image.datasets.options import side_of
from skillnet_image.pictures import as_published, made_small

SPLITS = ("train", "validation")
PAPER = {"test": 10_000, "dev": 20_000}


class AicIcc(Preparer):
    """A range is a piece of the annotations; a last one a split counts the pictures that no annotation names."""

    pools: Mapping[str, tuple[str, ...]] = {"validation": ("test", "dev")}

    def setup(self) -> None:
        """Write the annotations in pieces; those of train may be missing, which is said."""
        side_of(self.job)
        for split in SPLITS:
            pattern = f"caption_{split}_annotations_*.json"
            if split == "train" and not self.files.named(pattern):
                self.job.say(f"aic-icc: there is no {pattern}: only validation is prepared")
                continue
            self._pieces(split).write(read_list(self.files.one(pattern)))

    def ranges(self) -> Sequence[Range]:
        """The pieces in order, train first."""
        found = []
        for split in SPLITS:
            there = self._pictures[split]
            for number, entries in enumerate(self._pieces(split)):
                # Which picture is whose, so that one that has come or gone since makes another range.
                whose = checksum([there[name].name for each in entries if (name := _name_of(each)) in there])
                found.append(Range(f"{split}-{number:06d}", [split, number, whose], (split,)))
            if there or len(self._pieces(split)):
                found.append(Range(f"{split} without captions", [split, None, checksum(sorted(there))], (split,)))
        return found

    def bytes_needed(self) -> int:
        """Those of the pictures, unless they are made smaller."""
        pictures = (leaf.size for there in self._pictures.values() for leaf in there.values())
        return sum(pictures) if self.job.options.get("side") is None else 0

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        """An item for every entry, or for every picture that has none."""
        split, piece, _ = range.payload
        if piece is None:
            yield from self._without_captions(split)
            return
        pieces = self._pieces(split)
        for number, entry in enumerate(pieces[piece], pieces.size * piece):
            yield self._item(split, number, entry)

    def filter(self, items: Items) -> None:
        """Count the pictures of the test set that are there: it is defined by the annotations, not by what was kept."""
        bound = self._test_entries()
        self._test = sum(item.facts < bound for item in items if item.split == "validation")

    def large_enough(self, sizes: Mapping[str, int]) -> bool:
        """Whether validation has the paper's test set and more."""
        return sizes.get("validation", 0) > PAPER["test"]

    def split(self, pool: str, size: int, protocol: str | None) -> PoolSplit | None:
        """The first of validation for the test, the rest for development, as the paper does."""
        if protocol != "paper":
            return None
        test = self._test if self.job.limit is None else divided(size)
        return PoolSplit({"test": test, "dev": size - test}, shuffled=False)

    def _pieces(self, split: str) -> Pieces:
        return Pieces(self.folder, split)

    def _test_entries(self) -> int:
        """How many annotations of validation, from the first, make the test set."""
        return divided(sum(map(len, self._pieces("validation"))))

    def _item(self, split: str, number: int, entry: Any) -> Kept | Rejected:
        id = _name_of(entry) or f"{split}-{number:06d}"
        try:
            captions = _captions_of(entry)
            leaf = self._pictures[split].get(id)
            if leaf is None:
                return Rejected(split, id, "unavailable", "there is no picture of this name")
            picture = self._prepared(leaf.read())
        except DamagedItem as error:
            return Rejected(split, id, "damaged", str(error))
        return Kept(split, id, {"text": captions}, {"image": picture}, facts=number)

    def _prepared(self, data: bytes) -> tuple[bytes, str]:
        side = self.job.options.get("side")
        return as_published(data) if side is None else made_small(data, side)

    @cached_property
    def _pictures(self) -> dict[str, dict[str, Member]]:
        """Split -> name -> picture; where a name comes twice, the first."""
        found: dict[str, dict[str, Member]] = {split: {} for split in SPLITS}
        for leaf in self.files.members:
            path = PurePosixPath(leaf.name)
            for split in SPLITS:
                if fnmatchcase(path.parent.name, f"caption_{split}_images_*"):
                    found[split].setdefault(path.name, leaf)
        return found

    def _without_captions(self, split: str) -> Iterator[Kept | Rejected]:
        named = {_name_of(entry) for entries in self._pieces(split) for entry in entries}
        for name in self._pictures[split]:
            if name not in named:
                yield Rejected(split, name, "filtered", "no annotation names this picture")


def divided(size: int) -> int:
    """Of ``size`` pictures those of the test: the paper's, or in the paper's proportion where there are too few."""
    return PAPER["test"] if size > PAPER["test"] else divide(size, PAPER)["test"]


def _name_of(entry: Any) -> str | None:
    """The name of an annotation's picture, if it has one."""
    name = entry.get("image_id") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and name else None


def _captions_of(entry: Any) -> list[str]:
    """The captions of an annotation. Raises DamagedItem where it has none, or names no picture."""
    if _name_of(entry) is None:
        raise DamagedItem("the annotation names no picture")
    captions = entry.get("caption")
    texts = [text.strip() for text in captions if isinstance(text, str)] if isinstance(captions, list) else []
    if not any(texts):
        raise DamagedItem("it has no caption")
    return [text for text in texts if text]
