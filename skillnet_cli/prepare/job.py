"""What a preparer is handed: where the source is, where the set goes, and the tools between."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from skillnet_cli.api import Dataset, FailedJob, Published, UserError
from skillnet_cli.data.format import WORK
from skillnet_cli.data.progress import Progress, Silent
from skillnet_cli.prepare.writer import SetWriter
from skillnet_cli.sources.fetch import fetch

ENOUGH = 1000
"""Items that must have come in before a share is taken seriously while the work goes on."""


@dataclass(frozen=True)
class Tolerance:
    """For each class of the ledger the share of all items that may be in it; None is no bound."""

    damaged: float | None = 0.2
    filtered: float | None = None
    duplicate: float | None = None
    unavailable: float | None = None

    def check(
        self, name: str, counts: Mapping[str, int], reasons: Mapping[str, Sequence[tuple[str, int]]], advice: str
    ) -> None:
        """Raises FailedJob where a class of ``counts`` (class -> items) holds more than its share."""
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


def share(option: str, text: str) -> float:
    """``20%`` or ``0.2`` as a share of the whole. Raises UserError where it is none."""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise UserError(f"{option}: '{text}' is not a share such as 20% or 0.2")
    return value


def default_cache() -> Path:
    """Where fetched files are kept: SKILLNET_CACHE, else ``~/.cache/skillnet``."""
    named = os.environ.get("SKILLNET_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "skillnet"


@dataclass(frozen=True)
class Share:
    """One of ``count`` equal shares of the ranges, for a job of its own; ``number`` counts from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Share:
        """``2/8``: the second of eight. Raises UserError where it is none."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"--shard: '{text}' is not I/N with I from 1 to N, such as 2/8")
        return cls(int(found[1]), int(found[2]))

    def has(self, place: int) -> bool:
        """Whether the range at ``place`` belongs to it."""
        return place % self.count == self.number - 1


@dataclass(frozen=True)
class Preparation:
    """One ``skillnet prepare NAME``, as a preparer receives it.

    ``sources`` are what ``--source`` gave, none where it was not given; ``paths`` the same as local files and folders,
    once a :class:`~skillnet_cli.prepare.preparer.Preparer` runs, or else the published files; ``out`` is the set's
    folder; ``limit`` bounds the items of each split, for a trial; ``workers`` is how many threads or processes the
    preparer may use; ``protocol`` is ``--split``, None where the preparer shall choose; ``options`` has the value of
    every option that the data set declares.
    """

    dataset: Dataset
    sources: tuple[str, ...]
    out: Path
    seed: int = 0
    limit: int | None = None
    workers: int = 1
    cache: Path = field(default_factory=default_cache)
    progress: Progress = field(default_factory=Silent)
    protocol: str | None = None
    urls: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    share: Share | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    paths: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the set in the making keeps what all its ranges need."""
        return self.out / WORK / "begun"

    def fetch(self, source: str, sha256: str | None = None, md5: str | None = None) -> Path:
        """Make a source a local file or folder, see :func:`skillnet_cli.sources.fetch.fetch`."""
        return fetch(source, self.cache, sha256=sha256, progress=self.progress, md5=md5)

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
        return SetWriter(self.out, **{**named, **facts})

    def _published(self) -> tuple[Published, ...]:
        """The published files, their addresses replaced by ``--url`` where it was given; checksums stay."""
        there = self.dataset.published
        if not self.urls:
            return there
        if len(self.urls) != len(there):
            raise UserError(f"{self.dataset.name} is {len(there)} files to fetch: give --url for each, in this order")
        return tuple(replace(each, url=url) for url, each in zip(self.urls, there, strict=True))
