"""Which process has died or hangs: every rank keeps a sign of life where all can read it.

Neither gloo nor nccl names the rank that an unfinished collective waits for. So each rank writes how far it has come
into torch's store, from a thread of its own; rank 0 watches all of them, and all of them rank 0. A second thread judges
by the clock alone: the store lies in one of the processes, and does not answer, for ever, where that one is stopped.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, NoReturn

from torch import distributed

from skillnet_cli.api import FailedJob
from skillnet_cli.pace import pace
from skillnet_cli.terminal import print_error

SLOWEST, QUICKEST = 0.5, 0.2
"""Seconds between two signs of life: at most, at least; in between a tenth of the timeout."""


MEETING = 60.0
"""Seconds that ranks are given at the start, at least: some import or build their model more slowly than others."""


class Sign(NamedTuple):
    """What a rank says of itself."""

    step: int
    """That it has begun, counted from 1."""
    pieces: int
    """Of work that it has done; see :mod:`skillnet_cli.pace`."""
    waits: bool
    """Whether it waits for others."""
    number: int
    """Of the sign."""

    def __str__(self) -> str:
        return " ".join(str(int(each)) for each in self)

    @classmethod
    def parse(cls, text: str) -> Sign:
        """As :meth:`__str__` made it."""
        step, pieces, waits, number = map(int, text.split())
        return cls(step, pieces, bool(waits), number)


class Watch:
    """Judges by the signs of some ranks which of them is lost: one that gives none, or whose work does not get on.

    A rank that waits for others is not lost, nor is one whose work takes long and gets on. In an update nobody says
    that it waits, and all stand still with the one at fault: only who hears of all ranks can tell, by their steps.

    Args:
        own: this rank, of which no signs are missed.
        timeout: seconds that a rank may give no sign, or do nothing; before step 1 it may for :data:`MEETING` at least.
        every: seconds between two signs.
    """

    def __init__(self, own: int, timeout: float, every: float) -> None:
        self._own = own
        self._timeout = timeout
        self._late = 4 * every  # a sign that comes late on a busy machine is none that is missing
        self._signs: dict[int, Sign] = {}
        self._heard: dict[int, float] = {}
        self._moved: dict[int, float] = {}

    def note(self, rank: int, sign: Sign, now: float) -> None:
        """A rank's latest sign, new or not, read at a moment of the clock that :meth:`lost` goes by."""
        before = self._signs.get(rank)
        if before is None or sign.number != before.number:
            self._heard[rank] = now
        if before is None or sign.waits or sign[:2] != before[:2]:
            self._moved[rank] = now
        self._signs[rank] = sign

    def lost(self, now: float) -> tuple[list[int], str] | None:
        """Who is lost, and what is to be said of them; None where nobody is."""
        silent = {rank: now - heard for rank, heard in self._heard.items() if rank != self._own}
        first = max(silent, key=silent.__getitem__, default=None)
        if first is not None and silent[first] > self._timeout:
            return [first], f"has given no sign of life for {self._timeout:g} s, {_place(self._signs[first].step)}"
        if self._own not in self._signs or (first is not None and silent[first] > self._late):
            return None  # the others may well wait for the one that is silent
        idle = {rank: now - moved for rank, moved in self._moved.items()}
        furthest = max(sign.step for sign in self._signs.values())
        limit = self._timeout if furthest else max(self._timeout, MEETING)
        if max(idle.values()) <= limit:
            return None
        # Signs are taken now and then: whoever stands still for a little less may have done so for just as long.
        still = [rank for rank in sorted(idle) if idle[rank] > limit - self._late]
        step = min(self._signs[rank].step for rank in still)
        named = [rank for rank in still if self._signs[rank].step == step]
        if step < furthest:
            return named, f"did not reach step {furthest} within {limit:g} s"
        return named, f"did nothing for {limit:g} s, {_place(step)}"


class Heartbeat:
    """The signs of life of this rank, and an eye on those of others.

    Args:
        rank: this one.
        world: how many there are.
        timeout: seconds that a rank may give no sign, or do nothing, before this process ends with its name.
    """

    def __init__(self, rank: int, world: int, timeout: float) -> None:
        self.rank = rank
        self.every = min(SLOWEST, max(QUICKEST, timeout / 10))
        self._store = _own_store(timedelta(seconds=max(5.0, min(60.0, timeout))))
        self._everyone = range(world)
        self._count = 0
        self._step = 0
        self._clock = 0.0  # seconds that this process has run: while it is stopped itself, nobody is silent
        self._over = threading.Event()
        self._sign()
        self._store.set(f"who/{rank}", _name(rank))
        self._names = self._read("who", self._everyone)
        # Rank 0 judges itself too: as long as it gives signs, nobody else has to say what it does.
        self._watched = list(self._everyone) if rank == 0 else [0]
        self._watch = Watch(rank, timeout, self.every)
        self._lock = threading.Lock()
        self._note()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._exchange, self._judge)]
        for thread in self._threads:
            thread.start()

    def reached(self, step: int) -> None:
        """This rank begins a step, counted from 1."""
        self._step = step  # which is part of its sign

    def close(self) -> None:
        """Stop: a rank that has finished gives no more signs of life."""
        self._over.set()
        for thread in self._threads:
            thread.join(2 * self.every)

    def lost_rank(self) -> str | None:
        """The name of the rank that first gave no more sign of life, None where all do. Waits for a few signs."""
        try:
            before = self._read("life", self._everyone)
            time.sleep(3 * self.every)
            after = self._read("life", self._everyone)
        except RuntimeError:
            return self._names[0]
        silent = {each: after[each] for each in self._everyone if before[each] == after[each] and each != self.rank}
        first = min(silent, key=lambda each: Sign.parse(silent[each]), default=None)
        return None if first is None else self._names[first]

    def _exchange(self) -> None:
        """Give signs of life, and take note of those of others."""
        while not self._over.wait(self.every):
            try:
                self._sign()
                self._note()
            except distributed.DistNetworkError:
                return  # the store has ended with rank 0's process or its launcher's: nothing connects to it again
            except RuntimeError:
                continue

    def _note(self) -> None:
        found = self._read("life", self._watched)
        with self._lock:
            for each, text in zip(self._watched, found, strict=True):
                self._watch.note(each, Sign.parse(text), self._clock)

    def _judge(self) -> None:
        before = time.monotonic()
        while not self._over.wait(self.every):
            now = time.monotonic()
            self._clock += min(now - before, 4 * self.every)
            before = now
            with self._lock:
                lost = self._watch.lost(self._clock)
            if lost is not None:
                self._end(*lost)

    def _end(self, lost: Sequence[int], what: str) -> NoReturn:
        """The main thread waits for what may never come: nothing ends it but the end of the process."""
        if self._over.is_set():
            sys.exit()
        names = " and ".join(self._names[each] for each in lost)
        text = f"{names} {what}; run it again to resume"
        record_line(FailedJob(text))
        if multiprocessing.parent_process() is None:  # else the launcher says it
            print_error(f"skillnet: error: {text}")
        for each in lost:
            _wake(self._names[each])
        os._exit(1)

    def _sign(self) -> None:
        self._count += 1
        self._store.set(f"life/{self.rank}", str(Sign(self._step, *pace(), self._count)))

    def _read(self, what: str, ranks: Sequence[int]) -> list[str]:
        return [found.decode() for found in self._store.multi_get([f"{what}/{each}" for each in ranks])]


def record_line(error: Exception) -> None:
    """Tell torch's launcher, if there is one, what this rank ends with: in a line, where it would show a traceback."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        line = f"{type(error).__name__}: {error}"
        facts = {"py_callstack": line, "timestamp": str(int(time.time()))}  # as torch's ErrorHandler has it (2.11)
        Path(file).write_text(json.dumps({"message": {"message": line, "extraInfo": facts}}), encoding="utf-8")


def _place(step: int) -> str:
    """Where a rank was when it gave its last sign."""
    return f"last in step {step}" if step else "before step 1"


def _name(rank: int) -> str:
    return f"rank {rank} (host {socket.gethostname()}, pid {os.getpid()})"


def _wake(name: str) -> None:
    """Have a process on this machine that was stopped go on, to find that it is alone: its launcher could not end it.

    ``name`` is as :func:`_name` made it.
    """
    host, _, process = name.removesuffix(")").partition("(host ")[2].partition(", pid ")
    if host == socket.gethostname() and hasattr(signal, "SIGCONT"):
        with suppress(OSError, ValueError):
            os.kill(int(process), signal.SIGCONT)


def _own_store(timeout: timedelta) -> distributed.Store:
    """A connection of the heartbeat's own, since a store serves one request of a connection at a time.

    Processes that were restarted share the store with those before them, so each attempt has its own prefix.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = [uuid.uuid4().hex]
    distributed.broadcast_object_list(attempt)
    store = distributed.TCPStore(host, port, is_master=False, timeout=timeout, wait_for_workers=False)
    return distributed.PrefixStore(f"heartbeat/{attempt[0]}", store)
