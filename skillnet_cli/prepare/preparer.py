"""What a preparer is: it divides a data set's input into ranges, reads each on its own, and looks at all items last.

:meth:`Preparer.ranges` divides the input; :meth:`Preparer.read` turns one range into items, in a process that knows
nothing of other ranges; the rest (duplicates, random splits, label spaces) happens once, over short facts about the
items, when all ranges are done. So the ranges may be read in any order, in any number of processes and on any number
of machines, and resumed after a kill, and the set is the same to the byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from skillnet_cli.api import Dataset, FailedJob, Published, UserError
from skillnet_cli.data.format import WORK, Rejection
from skillnet_cli.data.progress import Progress, Silent
from skillnet_cli.plugins import Registry
from skillnet_cli.prepare.asked import fingerprint, is_local, portable, source_names
from skillnet_cli.prepare.writer import SetWriter
from skillnet_cli.sources.archives import DeepFileTree, FileTree
from skillnet_cli.sources.fetch import fetch


class Preparer(ABC):
    """Prepares one data set: subclass it, and name the class in ``Dataset.prepare``.

    An object is made in every process, so what it holds must follow from ``job`` alone. ``self.folder`` is a folder
    of the set in the making: :meth:`setup` writes there what all ranges need, and every process can read it. The steps
    over all items (:meth:`filter` and what follows it) have ``self.folder`` and the options, but no sources: a merge
    may run on a machine that has none.

    Files of ``self.files`` that are not read (links, devices, paths that lead out) become rows of the ledger.

    Attributes:
        version: of the preparer. A new version gives other bytes, and does not use parts that an older one made.
        shard_items: items a shard.
        independent: no step looks at several ranges: duplicates are looked for within a range only, nothing is split
            at random, and each range becomes one shard a split, by renaming. For sets too large to be written twice.
        pools: pool -> the splits that its items go into.
    """

    version = "1"
    shard_items = 1000
    independent = False
    pools: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, job: Preparation) -> None:
        self.job = self.configure(job)
        self.folder = job.folder

    @classmethod
    def configure(cls, job: Preparation) -> Preparation:
        """The job with what its options change about ``job.dataset``: what is published, under which licence.

        Called before anything is fetched. Calling it twice must give the same as calling it once.
        """
        return job

    @cached_property
    def files(self) -> FileTree:
        """The sources as one tree of files, wherever they lie: folders, zips, tars, single files."""
        return DeepFileTree(self.job.paths, self.folder)

    def setup(self) -> None:  # noqa: B027 - most sets need nothing
        """Make what all ranges need in ``self.folder``, before :meth:`ranges`; done once, under a lock."""

    def bytes_needed(self) -> int:
        """How many bytes the samples will take at least, where that is known before they are read; else 0."""
        return 0

    @abstractmethod
    def ranges(self) -> Sequence[Range]:
        """The input in order; the same for the same sources and options, whatever the number of processes."""

    @abstractmethod
    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        """All items of a range, in order.

        Raises:
            DamagedItem: the rest of the range cannot be read; that becomes a row of the ledger.
        """

    def filter(self, items: Items) -> None:  # noqa: B027
        """Leave out further items by ``items.reject``, near duplicates for instance; exact ones are gone already."""

    def large_enough(self, sizes: Mapping[str, int]) -> bool:
        """Whether the set is of the paper's size, so that its division is the default; ``sizes``: split -> items."""
        return True

    def pool(self, split: str, protocol: str | None) -> str:
        """The pool that a split's items go into under ``protocol``; the split itself where they stay."""
        return split

    def split(self, pool: str, size: int, protocol: str | None) -> PoolSplit | None:
        """How one of ``pools`` is split; None leaves it as a split of its own name.

        Args:
            pool: one of :attr:`pools`.
            size: its items.
            protocol: the division that was asked for or chosen, None where the set knows one only.
        """
        return None

    def finish(self, items: Items, protocol: str | None) -> Summary:
        """What the manifest says besides: label spaces and so on. Items can no longer be rejected."""
        return Summary()


@dataclass(frozen=True)
class Range:
    """A piece of the input that is read on its own; ``payload`` is any JSON value that says which.

    A part is made anew when its range, or a file that was read for it, is no longer as it was. So whatever a range
    looks up among the names of other files belongs into its payload, see :func:`checksum`; and what
    :meth:`Preparer.setup` reads belongs to all ranges.

    ``splits`` are the splits (or pools) that its items may belong to, where that is known: under ``--limit`` a range
    whose splits are full is not read at all.
    """

    name: str
    payload: Any = None
    splits: tuple[str, ...] = ()


def checksum(*values: Any) -> str:
    """What stands for JSON values in a payload, where all that counts is whether they have changed."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


@dataclass(frozen=True)
class Kept:
    """An item that is to be kept.

    Attributes:
        split: its split, or a pool that :meth:`Preparer.split` divides later.
        id: unique within the split; a later item with the same id becomes a duplicate.
        fields: values that JSON can hold: texts as a list of strings, labels, transcripts, numbers.
        media: field -> (encoded bytes, suffix with its dot).
        content: what makes two items the same one; a later item of the set with equal content becomes a duplicate.
            None: no content of this item is compared.
        facts: a short JSON value for the steps over all items (:meth:`Preparer.filter`, :meth:`Preparer.finish`).
    """

    split: str
    id: str
    fields: dict[str, Any]
    media: Mapping[str, tuple[bytes, str]] = field(default_factory=dict)
    content: bytes | str | None = None
    facts: Any = None


@dataclass(frozen=True)
class Rejected:
    """An item that is left out, with the class and the reason that go into the ledger."""

    split: str
    id: str
    why: Rejection
    reason: str


@dataclass(frozen=True)
class Item:
    """An item as the steps over all items see it; ``place`` counts what the ranges kept, in order of the input."""

    place: int
    split: str
    id: str
    facts: Any


@runtime_checkable
class Items(Protocol):
    """The items that are still kept, in order of the input. Iterating reads them from the disk, as often as wished."""

    def __iter__(self) -> Iterator[Item]: ...

    def reject(self, place: int, why: Rejection, reason: str) -> None:
        """Leave an item out after all; it takes effect when the step ends."""

    def id_of(self, place: int) -> str:
        """The id of the item at a place, for reasons that name it."""


@dataclass(frozen=True)
class PoolSplit:
    """How a pool is split: so many of its items for each split, at random by the seed, or in order of the input."""

    sizes: Mapping[str, int]
    shuffled: bool = True


def divide(size: int, published: Mapping[str, int], rest: str | None = None) -> dict[str, int]:
    """Sizes of the splits of ``size`` items: as published where there are enough items, else in that proportion.

    Args:
        size: items to divide.
        published: split -> its items in the paper.
        rest: the split that takes what is over; without it, items beyond the published sizes go into no split.
    """
    total = sum(published.values())
    if size >= total:
        sizes = dict(published)
    else:
        edges = [0]
        for items in published.values():
            edges.append(edges[-1] + items)
        # Rounding the edges, not the sizes: so the sizes sum to ``size``.
        cut = [round(size * edge / total) for edge in edges]
        sizes = {name: cut[place + 1] - cut[place] for place, name in enumerate(published)}
    if rest is not None:
        sizes[rest] = sizes.get(rest, 0) + size - sum(sizes.values())
    return sizes


@dataclass(frozen=True)
class Summary:
    """What a preparer adds to the manifest: target -> its values, further choices, and files to lie in ``assets``."""

    targets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)
    assets: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Tolerance:
    """For each class of the ledger the share of all items that may be in it; None is no bound."""

    damaged: float | None = 0.2
    filtered: float | None = None
    duplicate: float | None = None
    unavailable: float | None = None

    @classmethod
    def parse(cls, bounds: Mapping[str, str]) -> Tolerance:
        """Bounds as the options ``--max-CLASS`` give them (``20%`` or ``0.2``); the default for classes without one.

        Raises:
            UserError: a value is no share.
        """
        return cls(**{why: _share(f"--max-{why}", text) for why, text in bounds.items()})

    def check(
        self, name: str, counts: Mapping[str, int], reasons: Mapping[str, Sequence[tuple[str, int]]], advice: str
    ) -> None:
        """Raise FailedJob where a class holds more than its share.

        Args:
            name: of the data set.
            counts: class -> items.
            reasons: class -> its reasons and their items, the most frequent first.
            advice: what to do, for the message.
        """
        total = sum(counts.values())
        for why in (each.name for each in fields(self)):
            bound, found = getattr(self, why), counts.get(why, 0)
            if bound is None or found <= bound * total:
                continue
            most = reasons.get(why, ())
            because = f", mostly: {most[0][0]}" if most else ""
            raise FailedJob(
                f"{name}: {found:,} of {total:,} items are {why} ({found / total:.1%}), "
                f"--max-{why} allows {bound:.0%}{because}: {advice}"
            )


def _share(option: str, text: str) -> float:
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise UserError(f"{option}: '{text}' is not a share such as 20% or 0.2")
    return value


@dataclass(frozen=True)
class Share:
    """One of ``count`` equal shares of the ranges, for a job of its own; ``number`` counts from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Share:
        """``2/8``: the second of eight. Raises UserError where the text is no such share."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"--shard: '{text}' is not I/N with I from 1 to N, such as 2/8")
        return cls(int(found[1]), int(found[2]))

    def has(self, place: int) -> bool:
        """Whether the range at ``place`` belongs to it."""
        return place % self.count == self.number - 1


def default_cache() -> Path:
    """Where fetched files are kept: SKILLNET_CACHE, else ``skillnet`` in XDG_CACHE_HOME, else in ``~/.cache``."""
    if named := os.environ.get("SKILLNET_CACHE"):
        return Path(named).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG Base Directory Specification has a path ignored that is not absolute.
    return (Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache") / "skillnet"


def _silent(line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Preparation:
    """One ``skillnet prepare NAME``, as a preparer receives it.

    Attributes:
        dataset: what is prepared.
        sources: what ``--source`` gave; empty where it was not given.
        out: the set's folder.
        beside: the folder that it will lie in, where that is another than that of ``out``.
        seed: of random splits and other choices.
        limit: at most so many items of each split, for a trial.
        workers: threads or processes that the preparer may use.
        cache: the folder of fetched files.
        progress: shows how far the job is.
        say: prints a line for the user.
        protocol: ``--split``; None where the preparer shall choose.
        urls: addresses to fetch the published files from instead of the publisher's.
        options: the value of every option that the data set declares.
        share: the share of the ranges to read; None for all of them, and the set.
        tolerance: how many items may be left out.
        registry: the installed plugins, among them the translators.
        paths: the sources as local files and folders, or the published files; filled in before a
            :class:`Preparer` is made.
    """

    dataset: Dataset
    sources: tuple[str, ...]
    out: Path
    beside: Path | None = None
    seed: int = 0
    limit: int | None = None
    workers: int = 1
    cache: Path = field(default_factory=default_cache)
    progress: Progress = field(default_factory=Silent)
    say: Callable[[str], None] = _silent
    protocol: str | None = None
    urls: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    share: Share | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    registry: Registry = field(default_factory=Registry)
    paths: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the set in the making keeps what all its ranges need."""
        return self.out / WORK / "begun"

    @property
    def recorded_options(self) -> dict[str, Any]:
        """The options that the result depends on, in order of their names and as JSON can hold them."""
        return {name: portable(value) for name, value in sorted(self._recorded.items())}

    @property
    def _recorded(self) -> dict[str, Any]:
        recorded = {each.name for each in self.dataset.options if each.recorded}
        return {name: value for name, value in self.options.items() if name in recorded}

    @property
    def asked(self) -> dict[str, Any]:
        """What is asked for, as :attr:`Manifest.asked` has it, but for the files."""
        request = {"limit": self.limit, "seed": self.seed, "split": self.protocol, "options": self.recorded_options}
        return {**request, "source": source_names(self.sources)}

    @property
    def named_paths(self) -> tuple[Path, ...]:
        """The files and folders that are named: local sources, then those of options that the result depends on.

        Raises:
            UserError: a source is not there.
        """
        sources = [self.fetch(each) for each in self.sources if is_local(each)]
        options = [value for _, value in sorted(self._recorded.items()) if isinstance(value, Path) and value.exists()]
        return (*sources, *options)

    def fetch(self, source: str, sha256: str | None = None, md5: str | None = None) -> Path:
        """Make a source a local file or folder, see :func:`skillnet_cli.sources.fetch.fetch`.

        An address may be of a private network only if the user has named it, with ``--source`` or ``--url``.
        """
        named = source in self.sources or source in self.urls
        return fetch(source, self.cache, sha256=sha256, progress=self.progress, md5=md5, may_be_private=named)

    def fetch_sources(self) -> tuple[Path, ...]:
        """All sources as local files and folders: those that were named, else the published ones.

        Raises:
            UserError: none was named and none is published, or as :func:`skillnet_cli.sources.fetch.fetch`.
        """
        if self.sources:
            return tuple(self.fetch(source) for source in self.sources)
        if not self.dataset.published and self.dataset.obtain:
            raise UserError(f"{self.dataset.name} is not fetched: {self.dataset.obtain}, and name it with --source")
        return tuple(self.fetch(each.url, each.sha256, each.md5) for each in self._published())

    def writer(self, **facts: Any) -> SetWriter:
        """A writer of this set; ``facts`` are further arguments of :class:`SetWriter`."""
        named = {"name": self.dataset.name, "licence": self.dataset.licence, "seed": self.seed, "source": self.sources}
        asked = {**self.asked, "files": [fingerprint(path) for path in self.named_paths]}
        found = {**named, **facts, "asked": asked}
        return SetWriter(self.out, **{**found, "source": source_names(found["source"])})

    def write(
        self,
        items: Iterable[Kept | Rejected],
        source: tuple[str, ...],
        targets: dict[str, list[str]] | None = None,
    ) -> None:
        """Write a small set at one go; items of a split that has ``limit`` items already are skipped.

        Args:
            items: all of them, in order; only their split, id and fields are used.
            source: what they were made of, for the manifest.
            targets: target -> its values.
        """
        kept: Counter[str] = Counter()
        with self.writer(source=source) as writer:
            for item in self.progress.track(items, None, self.dataset.name):
                if self.limit is not None and kept[item.split] >= self.limit:
                    continue
                if isinstance(item, Kept):
                    kept[item.split] += 1
                    writer.keep(item.split, item.id, item.fields)
                else:
                    writer.reject(item.split, item.id, item.why, item.reason)
            writer.finish(targets)

    def _published(self) -> tuple[Published, ...]:
        """The published files, their addresses replaced by ``--url`` where it was given; checksums stay."""
        there = self.dataset.published
        if not self.urls:
            return there
        if len(self.urls) != len(there):
            raise UserError(f"{self.dataset.name} is {len(there)} files to fetch: give --url for each, in this order")
        return tuple(replace(each, url=url) for url, each in zip(self.urls, there, strict=True))
