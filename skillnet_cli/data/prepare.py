"""What a preparer is handed: where the source is, where the set goes, and the tools between."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillnet_cli.api import Dataset
from skillnet_cli.data.fetch import fetch
from skillnet_cli.data.progress import Bar, Plain, Progress, Silent, choose_progress
from skillnet_cli.data.writer import SetWriter

__all__ = ["Bar", "Plain", "Preparation", "Progress", "Silent", "choose_progress", "default_cache"]


def default_cache() -> Path:
    """Where fetched files are kept: SKILLNET_CACHE, else ``~/.cache/skillnet``."""
    named = os.environ.get("SKILLNET_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "skillnet"


@dataclass(frozen=True)
class Preparation:
    """One ``skillnet prepare NAME``, as the function that ``Dataset.prepare`` names receives it.

    ``sources`` are what ``--source`` gave, none where it was not given; ``out`` is the set's folder; ``limit`` bounds
    the items of each split, for a trial; ``workers`` is how many threads or processes the preparer may use.
    """

    dataset: Dataset
    sources: tuple[str, ...]
    out: Path
    seed: int = 0
    limit: int | None = None
    workers: int = 1
    cache: Path = field(default_factory=default_cache)
    progress: Progress = field(default_factory=Silent)

    def fetch(self, source: str, sha256: str | None = None) -> Path:
        """Make a source a local file or folder, see :func:`skillnet_cli.data.fetch.fetch`."""
        return fetch(source, self.cache, sha256=sha256, progress=self.progress)

    def writer(self, **facts: Any) -> SetWriter:
        """A writer of this set; ``facts`` are further arguments of :class:`SetWriter`."""
        named = {"name": self.dataset.name, "licence": self.dataset.licence, "seed": self.seed, "source": self.sources}
        return SetWriter(self.out, **{**named, **facts})
