"""How far a long job is: nothing, plain lines for a log, or a bar for a person."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Protocol, TypeVar, runtime_checkable

from skillnet_cli.terminal import is_quiet, print_error
from skillnet_cli.untrusted import printable

T = TypeVar("T")
SECONDS_A_LINE = 10.0
"""Seconds between two lines of a log: often enough to see that a job lives, seldom enough to read."""


@runtime_checkable
class Progress(Protocol):
    """Shows how far a job is."""

    def track(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        """Pass items on and show how many there have been.

        Args:
            items: the items of the job.
            total: how many they are; None where that is not known.
            what: what they are called.
        """


class Silent:
    """Shows nothing."""

    def track(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        """Pass the items on."""
        yield from items


class _Plain:
    """One line on standard error every ten seconds and one at the end, for logs."""

    def track(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        """Pass the items on, and print how many have gone by."""
        start = shown = time.monotonic()
        count = 0
        for count, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if now - shown >= SECONDS_A_LINE:
                shown = now
                print_error(f"{what}: {count}{f' of {total}' if total else ''}{_pace(count, total, now - start)}")
        print_error(f"{what}: {count} done")


def _pace(count: int, total: int | None, seconds: float) -> str:
    """The rate of a job and, where its total is known, the time that is left."""
    rate = count / seconds if seconds > 0 else 0.0
    if not rate:
        return ""
    left = f", {timedelta(seconds=round((total - count) / rate))} left" if total else ""
    return f" ({rate:.3g} a second{left})"


class _Bar:
    """Bars on standard error, drawn by rich; jobs within jobs have theirs below one another."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Any) -> Text:
                return Text(f"{task.finished_speed or task.speed or 0:.3g}/s")

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
        )
        self._bars = Bars(*columns, console=Console(stderr=True))
        self._running = 0

    def track(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        """Pass the items on under a bar."""
        self._running += 1
        self._bars.start()
        try:
            yield from self._bars.track(items, total=total, description=printable(what))
        finally:
            self._running -= 1
            if not self._running:
                self._bars.stop()


def choose_progress() -> Progress:
    """A bar where a person watches standard error, plain lines where none does, nothing where nothing is wanted."""
    if is_quiet():
        return Silent()
    return _Bar() if sys.stderr.isatty() else _Plain()
