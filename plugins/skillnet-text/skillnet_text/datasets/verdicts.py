"""How verdicts on items become a prepared set, for sets that are made at one go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from skillnet_cli.prepare.job import Preparation
from skillnet_cli.prepare.preparer import Kept, Rejected


def write_set(
    job: Preparation, verdicts: Iterable[Kept | Rejected], sources: tuple[str, ...], targets: dict[str, list[str]]
) -> None:
    """Write a prepared set; of a split that has ``job.limit`` items already, the rest is not looked at."""
    kept: Counter[str] = Counter()
    with job.writer(source=sources) as writer:
        for verdict in job.progress.track(verdicts, None, job.dataset.name):
            if job.limit is not None and kept[verdict.split] >= job.limit:
                continue
            if isinstance(verdict, Kept):
                kept[verdict.split] += 1
                writer.keep(verdict.split, verdict.id, verdict.fields)
            else:
                writer.reject(verdict.split, verdict.id, verdict.why, verdict.reason)
        writer.finish(targets)
