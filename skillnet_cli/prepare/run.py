"""One data set from its sources to a prepared set: plan the ranges, read them, put the parts together.

Ranges are read in this process or in several, each into a part of its own.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.data.format import WORK
from skillnet_cli.data.progress import Silent
from skillnet_cli.files import make_folder
from skillnet_cli.plugins import resolve
from skillnet_cli.prepare.merge import PreparedResult, merge
from skillnet_cli.prepare.part import Part, PartFacts, PartWriter
from skillnet_cli.prepare.preparer import Kept, Preparation, Preparer, Range, Rejected
from skillnet_cli.prepare.workdir import LimitCounter, Plan, Refused, WorkFolder
from skillnet_cli.prepare.writer import check_folder
from skillnet_cli.sources.inputs import note, noted

ENOUGH = 1000
"""Items that must have come in before the share of damaged ones says anything about the whole."""

RECENT = 100
"""Parts whose reasons a message about too many damaged items gives."""


def run(kind: type[Preparer], job: Preparation) -> PreparedResult | None:
    """Prepare a set, or its share of one (then None: :func:`merge` makes the set). What is done already is kept.

    Args:
        kind: the data set's preparer.
        job: what was asked for.

    Raises:
        UserError: the folder was begun with other inputs, or another process works on it; the source is wrong.
        FailedJob: too many items are damaged, the disk is full, or the machine fails. Run it again to resume.
    """
    work = WorkFolder(job.out)
    job = kind.configure(job)
    job = replace(job, paths=job.fetch_sources())
    if not (job.out / WORK).exists():
        check_folder(job.out)
    with work.lock_share(job):
        work.make()
        with work.alone():
            preparer, ranges, plan = _plan(kind, job, work)
        named = job.named_paths
        if job.limit is None and job.share is None:
            _check_room(preparer, work)
        _read_ranges(preparer, ranges, plan, work)
        with work.alone():
            work.record_files(named, _suffixes_read(work, plan))
        # What follows has no sources, as a merge on another machine would have none.
        return None if job.share else merge(kind(replace(job, paths=())), work)


def _plan(kind: type[Preparer], job: Preparation, work: WorkFolder) -> tuple[Preparer, Sequence[Range], Plan]:
    """Make what all ranges need and record them, or find both done."""
    work.record_job(job, kind.version)
    make_folder(job.folder, "name another folder with --out")
    preparer = kind(job)
    planned = work.plan()
    try:
        with noted() as begun:
            for path in job.named_paths:
                if path.is_file() and path not in job.paths:  # files that options name
                    note(path)
            if planned is None:
                work.clear_beginning(job.folder)
                preparer.setup()
        with noted():
            ranges = preparer.ranges()
    except UserError:
        if not work.parts_there():
            work.forget()
        raise
    # ``files`` is made when it is asked for: a preparer that has not asked has refused nothing.
    refused = preparer.files.refused if "files" in vars(preparer) else ()
    return preparer, ranges, work.record_plan(ranges, refused, planned.begun if planned else begun)


def _check_room(preparer: Preparer, work: WorkFolder) -> None:
    """Make sure that the disk has room for all samples, which are there twice while a set is put together.

    Raises:
        FailedJob: it has not.
    """
    needed = preparer.bytes_needed() * (1 if preparer.independent else 2)
    there = sum(path.stat().st_size for path in work.folder.rglob("*.tar") if path.parent != preparer.folder)
    free = shutil.disk_usage(work.folder).free
    if needed - there > free:
        raise FailedJob(
            f"{preparer.job.out}: the disk has {free / 1e9:.1f} GB free, and {preparer.job.dataset.name} needs "
            f"{(needed - there) / 1e9:.1f} GB while it is made: make room, or name a folder on another disk with --out"
        )


def _suffixes_read(work: WorkFolder, plan: Plan) -> set[str]:
    """The suffixes of all files that were read for the parts that are there, and for what all ranges need."""
    parts = (Part.open(work.out, place) for place in range(len(plan)))
    names = (name for part in parts if part for name in part.inputs().files)
    return {Path(name).suffix.lower() for name in (*plan.begun, *names)}


def _read_ranges(preparer: Preparer, ranges: Sequence[Range], plan: Plan, work: WorkFolder) -> None:
    """Make the parts of all ranges of this job's share that are not there yet, or whose sources have changed.

    Raises:
        FailedJob: too many items are damaged, the disk is full, or a process died. Finished parts stay.
    """
    job = preparer.job
    mine = [place for place in range(len(ranges)) if job.share is None or job.share.has(place)]
    there = {place: found for place in mine if (found := Part.open(job.out, place))}
    stale = [place for place, found in there.items() if work.stale(place, found, plan)]
    for place in stale:
        there.pop(place).remove()
    if stale:
        parts = "1 part is" if len(stale) == 1 else f"{len(stale):,} parts are"
        job.say(f"{job.dataset.name}: {parts} made anew: their sources have changed")
    label = f"{job.dataset.name}: ranges" + (f" ({len(there)} of {len(mine)} are done already)" if there else "")
    recent: deque[PartFacts] = deque(maxlen=RECENT)
    counts: Counter[str] = Counter()
    for part in job.progress.track(_parts(preparer, ranges, plan, mine), len(mine) - len(there), label):
        recent.append(part)
        counts.update(part.counts)
        if sum(counts.values()) >= ENOUGH:
            advice = "look at the source, or allow more and run it again"
            job.tolerance.check(job.dataset.name, counts, _sum_reasons(recent), advice)


def _sum_reasons(parts: Iterable[PartFacts]) -> dict[str, list[tuple[str, int]]]:
    """Class -> the reasons of several parts and their items, the most frequent first."""
    reasons: Counter[tuple[str, str]] = Counter()
    for part in parts:
        reasons.update({(why, reason): count for why, each in part.reasons.items() for reason, count in each})
    found: dict[str, list[tuple[str, int]]] = {}
    for (why, reason), count in reasons.most_common():
        found.setdefault(why, []).append((reason, count))
    return found


def _parts(preparer: Preparer, ranges: Sequence[Range], plan: Plan, mine: Sequence[int]) -> Iterator[PartFacts]:
    """The parts that are made now, in order of their ranges; those that are done already are only counted."""
    counter = LimitCounter(preparer)
    job = preparer.job
    pending: deque[Future[PartFacts] | PartFacts] = deque()

    def take_first() -> Iterator[PartFacts]:
        first = pending.popleft()
        part = first if isinstance(first, PartFacts) else first.result()
        counter.add(part)
        if part is not first:
            yield part

    with _Workers(preparer) as submit:
        for place in mine:
            if not counter.needs(ranges[place].splits):
                continue
            there = Part.open(job.out, place)
            refused = () if place else plan.refused
            pending.append(there.facts if there else submit(place, ranges[place], refused, plan.made_of(place)))
            # Counted in order, and as early as they are done: so that full splits are noticed, whoever was faster.
            while pending and (
                len(pending) > 2 * job.workers or isinstance(pending[0], PartFacts) or pending[0].done()
            ):
                yield from take_first()
        while pending:
            yield from take_first()


class _Workers:
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

    def __enter__(self) -> Callable[[int, Range, Refused, str], Future[PartFacts]]:
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

    def _submit(self, place: int, range: Range, refused: Refused, made_of: str) -> Future[PartFacts]:
        if self._pool:
            return self._pool.submit(_read_in_worker, place, range, refused, made_of)
        done: Future[PartFacts] = Future()
        done.set_result(_read(self._preparer, place, range, refused, made_of, lambda: False))
        return done


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


def _read_in_worker(place: int, range: Range, refused: Refused, made_of: str) -> PartFacts:
    preparer, stop = _here
    return _read(preparer, place, range, refused, made_of, stop.is_set)


def _read(
    preparer: Preparer, place: int, range: Range, refused: Refused, made_of: str, stopped: Callable[[], bool]
) -> PartFacts:
    """Read one range into its part, which begins with what was ``refused`` before."""
    bound, files = LimitCounter(preparer).bound, [path for path in preparer.job.paths if path.is_file()]
    writer = PartWriter(preparer.job.out, place, bound, not preparer.independent, made_of, files)
    return writer.write(_items(preparer, range, refused), range.splits, stopped)


def _items(preparer: Preparer, range: Range, refused: Refused) -> Iterator[Kept | Rejected]:
    """The files that were refused before, all items of a range, and the files that were refused within it."""
    _take_refused(preparer)  # those of an earlier range that was not read to its end
    yield from (Rejected("", name, "damaged", reason) for name, reason in refused)
    try:
        yield from preparer.read(range)
    except DamagedItem as error:
        yield Rejected("", range.name, "damaged", str(error))
    yield from (Rejected("", name, "damaged", reason) for name, reason in _take_refused(preparer))


def _take_refused(preparer: Preparer) -> Refused:
    """The files that were refused within archives since the last call."""
    return preparer.files.take_refused_within() if "files" in vars(preparer) else ()
