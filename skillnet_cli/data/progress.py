"""How far a long job is: nothing, plain lines for a log, or a bar for a person."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
SECONDS_A_LINE = 10.0


@runtime_checkable
class Progress(Protocol):
    """Tells someone how far a job is."""

    def track(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        """Pass ``items`` on, telling how many of ``total`` have gone by; ``what`` names them."""


class Silent:
    """Tells nobody."""

    def track(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        """Pass the items on."""
        yield from items


class Plain:
    """One line on standard error every ten seconds and one at the end, for logs."""

    def track(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        """Pass the items on, and print how many have gone by."""
        told = time.monotonic()
        count = 0
        for count, item in enumerate(items, 1):
            yield item
            if time.monotonic() - told >= SECONDS_A_LINE:
                told = time.monotonic()
                _say(f"{what}: {count}{f' of {total}' if total else ''}")
        _say(f"{what}: {count} done")


class Bar:
    """Bars on standard error, drawn by rich; jobs within jobs have theirs below one another."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress as Bars

        self._bars = Bars(console=Console(stderr=True))
        self._running = 0

    def track(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        """Pass the items on under a bar."""
        self._running += 1
        self._bars.start()
        try:
            yield from self._bars.track(items, total=total, description=what)
        finally:
            self._running -= 1
            if not self._running:
                self._bars.stop()


def choose_progress() -> Progress:
    """A bar where a person watches standard error, plain lines where none does."""
    return Bar() if sys.stderr.isatty() else Plain()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
