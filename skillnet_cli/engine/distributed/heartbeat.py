"""Which process has died or hangs: every rank keeps a sign of life where all can read it.

Neither gloo nor nccl names the rank that an unfinished collective waits for. So each rank writes its step and a count
into torch's store from a thread of its own; rank 0 watches all of them, and all of them rank 0. A second thread judges
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
from typing import NoReturn

from torch import distributed

from skillnet_cli.api import FailedJob
from skillnet_cli.terminal import print_error

SLOWEST, QUICKEST = 0.5, 0.2
"""Seconds between two signs of life: at most, at least; in between a tenth of the timeout."""


class Heartbeat:
    """The signs of life of this rank, and an eye on those of others.

    Args:
        rank: this one.
        world: how many there are.
        timeout: seconds that a rank may give no sign, or be a step behind, before this process ends with its name.
    """

    def __init__(self, rank: int, world: int, timeout: float) -> None:
        self.rank = rank
        self.timeout = timeout
        self.every = min(SLOWEST, max(QUICKEST, timeout / 10))
        self._store = _own_store(timedelta(seconds=max(5.0, min(60.0, timeout))))
        self._everyone = range(world)
        self._count = 0
        self._step = 0
        self._clock = 0.0  # seconds that this process has run: while it is stopped itself, nobody is silent
        self._since = self._clock
        self._over = threading.Event()
        self._sign()
        self._store.set(f"who/{rank}", _name(rank))
        self._names = self._read("who", self._everyone)
        watched = [each for each in self._everyone if each != rank] if rank == 0 else [0]
        self._last, self._seen = dict.fromkeys(watched, ""), dict.fromkeys(watched, self._clock)
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._exchange, self._judge)]
        for thread in self._threads:
            thread.start()

    def reached(self, step: int) -> None:
        """This rank begins a step, counted from 1."""
        self._step, self._since = step, self._clock

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
        first = min(silent, key=lambda each: [*map(int, silent[each].split())], default=None)
        return None if first is None else self._names[first]

    def _exchange(self) -> None:
        """Give signs of life, and take note of those of others."""
        watched = list(self._last)
        while not self._over.wait(self.every):
            try:
                self._sign()
                found = dict(zip(watched, self._read("life", watched), strict=True))
            except RuntimeError:  # the store lives in rank 0's process, or in its launcher's
                continue
            self._seen |= {each: self._clock for each in watched if found[each] != self._last[each]}
            self._last |= found

    def _judge(self) -> None:
        before = time.monotonic()
        while not self._over.wait(self.every):
            now = time.monotonic()
            self._clock += min(now - before, 4 * self.every)
            before = now
            for each, last in list(self._last.items()):
                step, silent = int(last.partition(" ")[0] or 0), self._clock - self._seen[each]
                self._check(each, step, silent, self._clock - self._since)

    def _check(self, other: int, step: int, silent: float, waiting: float) -> None:
        if step < self._step and waiting > self.timeout:
            self._end(other, f"did not reach step {self._step} within {self.timeout:g} s")
        if silent > self.timeout:
            self._end(other, f"has given no sign of life for {self.timeout:g} s, last in step {step}")

    def _end(self, other: int, what: str) -> NoReturn:
        """The main thread waits in a collective that nothing ends but the end of the process."""
        if self._over.is_set():
            sys.exit()
        text = f"{self._names[other]} {what}; run it again to resume"
        record_line(FailedJob(text))
        if multiprocessing.parent_process() is None:  # else the launcher says it
            print_error(f"skillnet: error: {text}")
        _wake(self._names[other])
        os._exit(1)

    def _sign(self) -> None:
        self._count += 1
        self._store.set(f"life/{self.rank}", f"{self._step} {self._count}")

    def _read(self, what: str, ranks: Sequence[int]) -> list[str]:
        return [found.decode() for found in self._store.multi_get([f"{what}/{each}" for each in ranks])]


def record_line(error: Exception) -> None:
    """Tell torch's launcher, if there is one, what this rank ends with: in a line, where it would show a traceback."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        line = f"{type(error).__name__}: {error}"
        facts = {"py_callstack": line, "timestamp": str(int(time.time()))}  # as torch's ErrorHandler has it (2.11)
        Path(file).write_text(json.dumps({"message": {"message": line, "extraInfo": facts}}), encoding="utf-8")


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
