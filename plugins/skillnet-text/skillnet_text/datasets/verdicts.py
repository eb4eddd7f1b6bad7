"""What a preparer decides about each item, and how decisions become a prepared set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from skillnet_cli.data.ledger import Rejection
from skillnet_cli.data.prepare import Preparation


@dataclass(frozen=True)
class Kept:
    """An item of a set, with its fields."""

    split: str
    id: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Rejected:
    """An item that is left out, with the class and the reason that go into the ledger."""

    split: str
    id: str
    why: Rejection
    reason: str


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
