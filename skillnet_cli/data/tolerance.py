"""How many items of a source may be left out before that means that something is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from skillnet_cli.api import FailedJob, UserError

ENOUGH = 1000
"""Items that must have come in before a share is taken seriously while the work goes on."""


@dataclass(frozen=True)
class Tolerance:
    """For each class of the ledger the share of all items that may be in it; None is no bound."""

    damaged: float | None = 0.2
    filtered: float | None = None
    duplicate: float | None = None
    unavailable: float | None = None

    def check(
        self, name: str, counts: Mapping[str, int], reasons: Mapping[str, Sequence[tuple[str, int]]], advice: str
    ) -> None:
        """Raises FailedJob where a class of ``counts`` (class -> items) holds more than its share."""
        total = sum(counts.values())
        for why in (each.name for each in fields(self)):
            bound, found = getattr(self, why), counts.get(why, 0)
            if bound is None or found <= bound * total:
                continue
            most = reasons.get(why, ())
            because = f", mostly: {most[0][0]}" if most else ""
            raise FailedJob(
                f"{name}: {found:,} of {total:,} items are {why} ({found / total:.1%}), "
                f"--max-{why} allows {bound:.0%}{because}: {advice}"
            )


def share(option: str, text: str) -> float:
    """``20%`` or ``0.2`` as a share of the whole. Raises UserError where it is none."""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise UserError(f"{option}: '{text}' is not a share such as 20% or 0.2")
    return value
