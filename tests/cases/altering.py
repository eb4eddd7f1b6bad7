"""Altering files by chance, and what may come of reading them: a line, soon, in bounded memory."""

from __future__ import annotations

import random
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from skillnet_cli.api import DamagedItem, FailedJob, UserError

SECONDS = 20
"""No input may take longer."""

GROWTH = 1 << 30
"""Bytes by which the process may grow over all of a kind: a model and libraries fit, a bomb does not."""

VALUES = (
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b'""',
    b"[]",
    b"{}",
    b"9" * 400,
    b"99999999999",
    b"[" * 20_000,
)
"""What a number or a string of a JSON document is replaced by."""


def altered(content: bytes, draw: random.Random) -> bytes:
    """The content with one to three faults."""
    for _ in range(draw.randint(1, 3)):
        content = draw.choice(FAULTS)(content, draw)
    return content


def _flip(content: bytes, draw: random.Random) -> bytes:
    there = bytearray(content)
    for _ in range(draw.choice((1, 1, 4, 64)) if there else 0):
        there[draw.randrange(len(there))] ^= 1 << draw.randrange(8)
    return bytes(there)


def _flip_early(content: bytes, draw: random.Random) -> bytes:
    """Headers are at the front."""
    return _flip(content[:256], draw) + content[256:]


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _cut_out(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    return content[:start] + content[start + draw.choice((1, 8, 512)) :]


def _put_in(content: bytes, draw: random.Random) -> bytes:
    start, more = (
        draw.randrange(len(content) + 1),
        draw.choice((draw.randbytes(9), bytes(512), b"\xff" * 8, b"\x1b[2J")),
    )
    return content[:start] + more + content[start:]


def _replace_value(content: bytes, draw: random.Random) -> bytes:
    """A number or a string of a text becomes something else."""
    found = list(re.finditer(rb'"[^"]{0,80}"|-?\d+(\.\d+)?', content[: 1 << 16]))
    if not found:
        return _flip(content, draw)
    one = draw.choice(found)
    return content[: one.start()] + draw.choice(VALUES) + content[one.end() :]


def _empty(content: bytes, draw: random.Random) -> bytes:
    return b""


def _repeat(content: bytes, draw: random.Random) -> bytes:
    return content * draw.randint(2, 3)


FAULTS: Sequence[Callable[[bytes, random.Random], bytes]] = (
    *(_flip, _flip, _flip_early, _flip_early, _cut, _cut, _cut_out, _put_in),
    *(_replace_value, _replace_value, _replace_value, _replace_value, _empty, _repeat),
)


class TooLong(BaseException):
    """Not an Exception: nothing that is tested may take it for one of its own."""


@contextmanager
def bounded(seconds: int) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def failure(use: Callable[[], object]) -> str | None:
    """What went wrong that may not; None where the input was used, or refused in a line."""
    try:
        with bounded(SECONDS):
            use()
    except (UserError, FailedJob, DamagedItem) as error:
        return None if str(error).strip() else "an empty message"
    except TooLong:
        return f"took over {SECONDS} seconds"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({Path(where.filename).name}:{where.lineno})"
    return None


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def counts(sample: int, soak: int) -> list[object]:
    """How many inputs of a kind are tried, the larger number in ``make soak``."""
    return [sample, pytest.param(soak, marks=pytest.mark.soak)]
