"""Finds leaks: items of one part whose media or texts another part has as well, of one set or of two.

Media are compared by their bytes, texts as they are and in a normal form. Each content is a hash of 16 bytes; the
hashes are sorted on the disk, a share of them in memory at a time, so that sets of any size can be compared.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from skillnet_cli.api import UserError, second_field
from skillnet_cli.data.prepared import PreparedSet, Split
from skillnet_cli.data.progress import Progress, Silent
from skillnet_cli.files import disk_errors

AT_ONCE = 1 << 20
"""Contents whose hashes are compared at a time, roughly; 32 bytes each."""
WRITE_AT_ONCE = 1 << 16
EXAMPLES = 5

_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("part", "<u2"), ("form", "<u2"), ("place", "<u4")])


@dataclass(frozen=True)
class Part:
    """What is compared: some splits of a set under one name. Places count through them."""

    name: str
    splits: tuple[Split, ...]

    @classmethod
    def all_of(cls, prepared: PreparedSet, name: str, split: str | None = None, apart: bool = False) -> list[Part]:
        """A set as one part, or each of its splits as one, or one split alone.

        Args:
            prepared: the set.
            name: what the set is called.
            split: the split to take alone.
            apart: whether each split is a part of its own.
        """
        if split is not None:
            return [cls(f"{name}:{split}", (prepared.split(split),))]
        splits = tuple(prepared.split(each) for each in prepared.manifest.splits)
        return [cls(f"{name}:{each.name}", (each,)) for each in splits] if apart else [cls(name, splits)]

    def __len__(self) -> int:
        return sum(map(len, self.splits))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return itertools.chain.from_iterable(self.splits)

    def id(self, place: int) -> str:
        """The id of the item at a place, and its split where there are several."""
        for split in self.splits:
            if place < len(split):
                named = str(split[place]["id"])
                return named if len(self.splits) == 1 else f"{split.name}: {named}"
            place -= len(split)
        raise IndexError(place)


@dataclass(frozen=True)
class Overlap:
    """What two parts have in common in one field, and in which form it was compared (``bytes``, ``text``, ``normal``).

    ``left_items`` of ``left`` have a content that ``right`` has, and the other way round. ``examples`` are pairs of
    ids.
    """

    left: str
    right: str
    field: str
    form: str
    left_items: int
    right_items: int
    left_size: int
    right_size: int
    examples: tuple[tuple[str, str], ...] = ()


def kinds_to_compare(sets: Sequence[PreparedSet], skills: Sequence[str], fields: Sequence[str]) -> dict[str, bool]:
    """Field -> whether it holds media, of the fields that are compared.

    Those are ``fields`` where some are named, else all media and the texts of ``skills``, those of
    pairs included.

    Raises:
        UserError: a named field is in no set or holds neither media nor texts, or there is nothing to compare.
    """
    kinds = {name: kind for prepared in sets for name, kind in prepared.manifest.fields.items()}
    media = {name: kind.startswith("bytes") for name, kind in kinds.items() if kind.startswith(("bytes", "text"))}
    for name in fields:
        if name not in media:
            raise UserError(f"--fields: no field '{name}' of media or texts: there are {', '.join(sorted(media))}")
    read = {field for skill in skills for field in (skill, second_field(skill))}
    chosen = {name: is_media for name, is_media in media.items() if not fields and (is_media or name in read)}
    chosen |= {name: media[name] for name in fields}
    if not chosen:
        raise UserError(
            f"nothing to compare: name fields with --fields; there are {', '.join(sorted(media)) or 'none'}"
        )
    return dict(sorted(chosen.items()))


def find_overlaps(
    parts: Sequence[Part],
    fields: Mapping[str, bool],
    progress: Progress | None = None,
    at_once: int = AT_ONCE,
) -> list[Overlap]:
    """What each two of the parts have in common, those that have nothing included.

    Args:
        parts: at least two.
        fields: field -> whether it holds media.
        progress: shows the items that are read.
        at_once: contents held in memory at a time, roughly.

    Raises:
        UserError: there are too few parts, or too many.
        FailedJob: a set is damaged, or the disk is full.
    """
    if not 2 <= len(parts) <= 64:
        raise UserError(f"{len(parts)} parts to compare: give two sets, or one that has several splits")
    forms = [(name, form) for name, is_media in fields.items() for form in (("bytes",) if is_media else TEXT_FORMS)]
    found = _Found(parts, forms)
    with tempfile.TemporaryDirectory(prefix="skillnet-overlap-") as folder, ExitStack() as stack:
        spool = _Spool(Path(folder), sum(map(len, parts)) * len(forms) // at_once + 1, stack)
        for number, part in enumerate(parts):
            items = (progress or Silent()).track(iter(part), len(part), f"{part.name}: items read")
            for place, sample in enumerate(items):
                for form, content in _contents(sample, forms):
                    spool.add(content, number, form, place)
        for records in spool.shares():
            found.add(records)
    return found.overlaps()


TEXT_FORMS = ("text", "normal")


def _contents(sample: Mapping[str, Any], forms: Sequence[tuple[str, str]]) -> Iterator[tuple[int, bytes]]:
    for number, (name, form) in enumerate(forms):
        value = sample.get(name)
        if isinstance(value, bytes) and form == "bytes":
            yield number, value
        elif isinstance(value, (str, list)) and form != "bytes":
            for text in [value] if isinstance(value, str) else value:
                content = _normalised(text) if form == "normal" else text
                if content:
                    yield number, content.encode("utf-8", errors="surrogatepass")


def _normalised(text: str) -> str:
    """A text without what makes no difference to a reader: widths of characters, case, white space."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


class _Spool:
    """Hashes of contents in files by their last bits, so that equal ones lie in the same file."""

    def __init__(self, folder: Path, shares: int, stack: ExitStack) -> None:
        shares = min(shares, 512)
        self._paths = [folder / f"{number:03d}" for number in range(shares)]
        self._folder = folder
        with disk_errors(folder):
            self._files = [stack.enter_context(path.open("wb")) for path in self._paths]
        self._waiting: list[tuple[int, int, int, int, int]] = []

    def add(self, content: bytes, part: int, form: int, place: int) -> None:
        """Take down a content."""
        digest = hashlib.blake2b(content, digest_size=16).digest()
        high, low = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
        self._waiting.append((high, low, part, form, place))
        if len(self._waiting) >= WRITE_AT_ONCE:
            self._write()

    def shares(self) -> Iterator[np.ndarray]:
        """All that was taken down, a share at a time."""
        self._write()
        for path, file in zip(self._paths, self._files, strict=True):
            with disk_errors(self._folder):
                file.close()
            yield np.fromfile(path, _RECORD)

    def _write(self) -> None:
        block = np.array(self._waiting, _RECORD)
        self._waiting.clear()
        chosen = block["low"] % np.uint64(len(self._files))
        for number, file in enumerate(self._files):
            with disk_errors(self._folder):
                file.write(block[chosen == number].tobytes())


@dataclass
class _Found:
    """Which items of each part have a content that another part has: a bit of memory an item for each other part."""

    parts: Sequence[Part]
    forms: Sequence[tuple[str, str]]
    _hits: dict[tuple[int, int, int], Bool[np.ndarray, " items"]] = field(default_factory=dict)
    _examples: dict[tuple[int, int, int], list[tuple[int, int]]] = field(default_factory=dict)

    def add(self, records: np.ndarray) -> None:
        """Look through one share."""
        if not len(records):
            return
        records = records[
            np.lexsort((records["place"], records["part"], records["low"], records["high"], records["form"]))
        ]
        same = np.ones(len(records), bool)
        for name in ("form", "high", "low"):
            same[1:] &= records[name][1:] == records[name][:-1]
        starts = np.flatnonzero(~same | (np.arange(len(records)) == 0))
        ends = np.append(starts[1:], len(records))
        spans = records["part"][starts] != records["part"][ends - 1]
        for start, end in zip(starts[spans].tolist(), ends[spans].tolist(), strict=True):
            self._shared(records[start:end])

    def _shared(self, records: np.ndarray) -> None:
        """Items of several parts with one content."""
        form = int(records["form"][0])
        places = {int(part): records["place"][records["part"] == part] for part in np.unique(records["part"])}
        for left, right in itertools.permutations(places, 2):
            self._marks(left, right, form)[places[left]] = True
        for left, right in itertools.combinations(places, 2):
            pairs = self._examples.setdefault((left, right, form), [])
            pairs.append((int(places[left][0]), int(places[right][0])))
            self._examples[left, right, form] = sorted(pairs)[:EXAMPLES]

    def _marks(self, part: int, other: int, form: int) -> Bool[np.ndarray, " items"]:
        return self._hits.setdefault((part, other, form), np.zeros(len(self.parts[part]), bool))

    def overlaps(self) -> list[Overlap]:
        """A row for each two parts and each form."""
        return [
            self._row(left, right, form)
            for left, right in itertools.combinations(range(len(self.parts)), 2)
            for form in range(len(self.forms))
        ]

    def _row(self, left: int, right: int, form: int) -> Overlap:
        here, there = self.parts[left], self.parts[right]
        counts = [
            int(self._hits[key].sum()) if key in self._hits else 0 for key in ((left, right, form), (right, left, form))
        ]
        pairs = self._examples.get((left, right, form), [])
        examples = tuple((here.id(a), there.id(b)) for a, b in pairs)
        return Overlap(here.name, there.name, *self.forms[form], counts[0], counts[1], len(here), len(there), examples)
