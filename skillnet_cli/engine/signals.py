"""SIGTERM and SIGINT: the first asks the training to stop after its step, a second one ends the process at once.

Python runs a handler between two of its own instructions, and a step may be one long call into torch. So a thread waits
for the second signal: the interpreter writes each one's number into a socket as it comes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOP = "SKILLNET_STOPPED_BY"
"""In the environment of a process that is started after a signal has asked its launcher to stop: the signal."""


class Stopped(Exception):
    """A signal stopped the training after it had saved its state; the exit code is 128 + the signal's number."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(number, message)
        self.number = number
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopSignals:
    """While entered, ``received`` is the number of the signal that asked to stop, 0 before one came.

    Args:
        tidy: what a second signal does before it ends the process: half-written files are deleted.
    """

    def __init__(self, tidy: Callable[[], object] = lambda: None) -> None:
        self.received = 0
        self._tidy = tidy
        self._before: dict[int, Any] = {}
        self._writer: socket.socket | None = None

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._wait_for_second, args=(reader,), daemon=True).start()
        return self

    def _wait_for_second(self, reader: socket.socket) -> None:
        came = 0
        with reader:
            while numbers := reader.recv(64):  # until the other end is closed
                for number in numbers:
                    came += number in SIGNALS
                    if came == 2:
                        leave_at_once(number, self._tidy)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        while self.received:  # the second one: nothing new is begun until the other thread ends the process
            time.sleep(1)
        self.received = number

    def _restore(self) -> None:
        if self._writer is not None:
            signal.set_wakeup_fd(self._wakeup)
            self._writer.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)


def leave_at_once(number: int, tidy: Callable[[], object]) -> NoReturn:
    """End this process with the code of a signal, whatever its other threads do; ``tidy`` is called before."""
    with suppress(Exception):
        tidy()
        time.sleep(0.05)  # what another thread was just writing
        tidy()
    os._exit(128 + number)


class RelayedSignals(StopSignals):
    """While entered, SIGTERM and SIGINT are passed on to the processes that this one has started with multiprocessing.

    The first asks them to stop, and this process waits however long they take to save. A second one ends them and this
    process at once. ``received`` is the first one's number, 0 before it came.
    """

    def __enter__(self) -> RelayedSignals:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def _restore(self) -> None:
        super()._restore()
        os.environ.pop(STOP, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = bool(self.received)
        self.received = self.received or number
        os.environ[STOP] = str(self.received)
        children = multiprocessing.active_children()
        for child in children:
            if again:
                child.kill()
            elif child.pid is not None:
                os.kill(child.pid, number)
        if again:
            for child in children:
                child.join(1)
            leave_at_once(number, self._tidy)


def leave_terminal() -> None:
    """Have signals of the terminal come to this process from its launcher alone, where the system has such groups."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()


def leave_group(worker: int = 0) -> None:
    """For processes that read ahead: a terminal signals its whole group, and they are needed until the step is done.

    They do not ignore signals: at its end Python terminates them and waits until they are gone.
    """
    leave_terminal()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
