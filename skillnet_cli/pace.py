"""How far this process has come, for those who wait for it: that one of its threads lives shows nothing.

Whatever may take long says :func:`advanced` after each piece of its work, such as an item, a batch or a file; the ranks
of a training watch that the others' counts grow (``engine/distributed/heartbeat.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

_pieces = itertools.count(1)
_done = 0
_waits = 0


def advanced() -> None:
    """One more piece of work is done, whichever thread did it."""
    global _done
    _done = next(_pieces)


@contextmanager
def waiting() -> Iterator[None]:
    """While entered, it is for others to get on: other ranks, or a server for which there is a limit already."""
    global _waits
    _waits += 1
    try:
        yield
    finally:
        advanced()  # the next piece begins now, however long the wait was
        _waits -= 1


def pace() -> tuple[int, bool]:
    """How many pieces are done, and whether this process waits for others."""
    return _done, _waits > 0
