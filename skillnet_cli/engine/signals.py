"""SIGTERM and SIGINT: the first asks the training to stop after its step, a second one ends the process at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from types import FrameType, TracebackType
from typing import Any

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
    """While entered, ``received`` is the number of the signal that asked to stop, 0 before one came."""

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class RelayedSignals(StopSignals):
    """While entered, SIGTERM and SIGINT are passed on to the processes that this one has started with multiprocessing.

    The first asks them to stop, and this process waits however long they take to save. A second one ends them and this
    process at once. ``received`` is the first one's number, 0 before it came.
    """

    def _restore(self) -> None:
        super()._restore()
        os.environ.pop(STOP, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = bool(self.received)
        self.received = self.received or number
        os.environ[STOP] = str(self.received)
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, signal.SIGKILL if again else number)
        if again:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def leave_group(worker: int = 0) -> None:
    """For processes that read ahead: a terminal signals its whole group, and they are needed until the step is done.

    They do not ignore signals: at its end Python terminates them and waits until they are gone.
    """
    os.setpgrp()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
