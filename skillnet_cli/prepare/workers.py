"""Reads the ranges that are still to be read, in this process or in several, each into a part of its own."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from typing import Any

from skillnet_cli.api import DamagedItem, FailedJob
from skillnet_cli.data.format import WORK
from skillnet_cli.data.progress import Silent
from skillnet_cli.plugins import resolve
from skillnet_cli.prepare.part import PartFacts, PartWriter, read_part, sum_counts
from skillnet_cli.prepare.preparer import Kept, Preparation, Preparer, Range, Rejected
from skillnet_cli.prepare.workdir import Plan, Refused

ENOUGH = 1000
"""Items that must have come in before a share of them says anything about the whole."""


@dataclass
class Fill:
    """How full the splits are under ``--limit``, counted in order of the ranges."""

    preparer: Preparer
    kept: Counter[str] = field(default_factory=Counter)

    def needs(self, splits: tuple[str, ...]) -> bool:
        """Whether a range with items of these splits can add anything."""
        return not splits or any(not self._full(split) for split in splits)

    def add(self, part: PartFacts) -> None:
        """Count a part; those of earlier ranges have been counted."""
        self.kept.update({split: facts.items for split, facts in part.splits.items()})

    def _full(self, split: str) -> bool:
        bound = _bound_of(self.preparer, split)
        return bound is not None and self.kept[split] >= bound


def _bound_of(preparer: Preparer, split: str) -> int | None:
    """How many items of a split can be of use under ``--limit``; a pool must fill all splits that it is split into."""
    limit = preparer.job.limit
    return None if limit is None else limit * len(preparer.pools.get(split, (split,)))


def read_ranges(preparer: Preparer, ranges: Sequence[Range], plan: Plan) -> None:
    """Make the parts of all ranges of this job's share that are not there yet.

    Raises:
        FailedJob: too many items are damaged, the disk is full, or a process died. Finished parts stay.
    """
    job = preparer.job
    mine = [place for place in range(len(ranges)) if job.share is None or job.share.has(place)]
    there = sum(read_part(job.out / WORK, place) is not None for place in mine)
    label = f"{job.dataset.name}: ranges" + (f" ({there} of {len(mine)} are there already)" if there else "")
    recent: deque[PartFacts] = deque(maxlen=100)
    counts: Counter[str] = Counter()
    for part in job.progress.track(_parts(preparer, ranges, plan, mine), len(mine) - there, label):
        recent.append(part)
        counts.update(part.counts)
        if sum(counts.values()) >= ENOUGH:
            _, reasons = sum_counts(recent)
            job.tolerance.check(job.dataset.name, counts, reasons, "look at the source, or allow more and run it again")


def _parts(preparer: Preparer, ranges: Sequence[Range], plan: Plan, mine: Sequence[int]) -> Iterator[PartFacts]:
    """The parts that are made now, in order of their ranges; those that are there already are only counted."""
    fill = Fill(preparer)
    job = preparer.job
    pending: deque[Future[PartFacts] | PartFacts] = deque()
    with _workers(preparer) as submit:
        for place in mine:
            if not fill.needs(ranges[place].splits):
                continue
            there = read_part(job.out / WORK, place)
            pending.append(there or submit(place, ranges[place], () if place else plan.refused))
            while pending and (len(pending) > 2 * job.workers or _is_ready(pending[0])):
                yield from _next(pending, fill)
        while pending:
            yield from _next(pending, fill)


def _is_ready(part: Future[PartFacts] | PartFacts) -> bool:
    return isinstance(part, PartFacts) or part.done()


def _next(pending: deque[Future[PartFacts] | PartFacts], fill: Fill) -> Iterator[PartFacts]:
    first = pending.popleft()
    if isinstance(first, PartFacts):
        return fill.add(first)
    part = first.result()
    fill.add(part)
    yield part


class _workers:
    """Processes that read ranges; with one worker, this process does."""

    def __init__(self, preparer: Preparer) -> None:
        self._preparer = preparer
        self._pool: ProcessPoolExecutor | None = None
        if preparer.job.workers > 1:
            # A fresh interpreter: a copy of a process whose libraries run threads may hang.
            context = multiprocessing.get_context("spawn")
            self._stop = context.Event()
            job = replace(preparer.job, progress=Silent())
            self._pool = ProcessPoolExecutor(job.workers, context, _start, (job, self._stop))

    def __enter__(self) -> Callable[[int, Range, Refused], Future[PartFacts]]:
        return self._submit

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self._pool:
            if kind is not None:
                self._stop.set()
            self._pool.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            name = self._preparer.job.dataset.name
            advice = "run it again, with fewer --workers if memory was short: finished parts are kept"
            raise FailedJob(f"{name}: a worker process died: {advice}") from error

    def _submit(self, place: int, range: Range, refused: Refused) -> Future[PartFacts]:
        if self._pool:
            return self._pool.submit(_read, place, range, refused)
        done: Future[PartFacts] = Future()
        done.set_result(_make_part(self._preparer, place, range, refused, lambda: False))
        return done


def _make_part(
    preparer: Preparer, place: int, range: Range, refused: Refused, stopped: Callable[[], bool]
) -> PartFacts:
    """Read one range into its part, which begins with what was ``refused`` before."""
    work, keyed = preparer.job.out / WORK, not preparer.independent
    writer = PartWriter(work, place, lambda split: _bound_of(preparer, split), keyed)
    return writer.write(_items(preparer, range, refused), range.splits, stopped)


def _items(preparer: Preparer, range: Range, refused: Refused) -> Iterator[Kept | Rejected]:
    """What becomes of all that a range holds, the files that are not touched and a broken end included."""
    _refused_within(preparer)  # those of a range that was not read to its end
    yield from (Rejected("", name, "damaged", reason) for name, reason in refused)
    try:
        yield from preparer.read(range)
    except DamagedItem as error:
        yield Rejected("", range.name, "damaged", str(error))
    yield from (Rejected("", name, "damaged", reason) for name, reason in _refused_within(preparer))


def _refused_within(preparer: Preparer) -> Refused:
    return preparer.files.take_refused_within() if "files" in vars(preparer) else ()


_here: tuple[Preparer, Any]
"""A worker process's own preparer, and the event that tells it to stop."""


def _start(job: Preparation, stop: Any) -> None:
    global _here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the first process's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _here = resolve(job.dataset.prepare)(job), stop


def _end_with_parent() -> None:
    """End when the first process is gone, by whatever signal: nobody would wait for the part."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _read(place: int, range: Range, refused: Refused) -> PartFacts:
    preparer, stop = _here
    return _make_part(preparer, place, range, refused, stop.is_set)
