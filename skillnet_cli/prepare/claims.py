"""Who may write a set right now: one process, or one for each of the shares that its input is divided into."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skillnet_cli.data.format import WORK
from skillnet_cli.files import make_folder, only_one

ALL = "all"


@contextmanager
def claimed(out: Path, share: str = ALL) -> Iterator[None]:
    """Write a set, or one share of it, while nobody else does.

    Args:
        out: the set's folder; it and its work folder are made where they are missing.
        share: ``I-of-N``, or all of it.

    Raises:
        UserError: another process works on some of it, or the folder cannot be made.
    """
    work = out / WORK
    make_folder(work, "name another folder with --out")
    busy = f"{out}: another process prepares it right now: wait for it, or end it"
    with only_one(work / f"lock-{share}", busy):
        for other in sorted(work.glob("lock-*")):
            if _overlap(share, other.name.removeprefix("lock-")):
                with only_one(other, busy):
                    pass
        yield


def _overlap(share: str, other: str) -> bool:
    """Whether two shares, which are not the same, have ranges in common."""
    found = [re.fullmatch(r"(\d+)-of-(\d+)", each) for each in (share, other)]
    if share == other or (other != ALL and not found[1]):
        return False
    if not (found[0] and found[1]):
        return True
    (one, count), (two, others) = (map(int, each.groups()) for each in found if each)
    return (one - two) % math.gcd(count, others) == 0
