"""How far a long job is: nothing, plain lines for a log, or a bar for a person."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TextIO, TypeVar, runtime_checkable

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
    """One line every ten seconds and one at the end, for logs."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def track(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        """Pass the items on, and print how many have gone by."""
        told = time.monotonic()
        count = 0
        for count, item in enumerate(items, 1):
            yield item
            if time.monotonic() - told >= SECONDS_A_LINE:
                told = time.monotonic()
                self._say(f"{what}: {count}{f' of {total}' if total else ''}")
        self._say(f"{what}: {count} done")

    def _say(self, line: str) -> None:
        print(line, file=self._stream or sys.stderr, flush=True)


class Bar:
    """A bar on standard error, drawn by rich."""

    def track(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        """Pass the items on under a bar."""
        from rich.console import Console
        from rich.progress import track

        return iter(track(items, description=what, total=total, console=Console(stderr=True)))


def choose_progress(stream: TextIO | None = None) -> Progress:
    """A bar where a person watches ``stream`` (standard error), plain lines where none does."""
    return Bar() if (stream or sys.stderr).isatty() else Plain(stream)
