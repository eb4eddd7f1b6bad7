"""What the commands of ``skillnet prepare`` share: options, bounds, and what is said of a set that is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.common import remark

if TYPE_CHECKING:
    from skillnet_cli.data.prepared import PreparedSet
    from skillnet_cli.prepare.merge import PreparedResult
    from skillnet_cli.prepare.preparer import Preparation

DATA = Path("data")
_REASONS = 3
"""Reasons that are shown for each class of the ledger."""

_TOLERATED = "Fail if a larger share of the items is {}."
MaxDamaged = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("damaged"), show_default="20%")]
MaxFiltered = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("filtered"))]
MaxDuplicate = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("duplicate"))]
MaxUnavailable = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("unavailable"))]
Again = Annotated[
    bool,
    typer.Option("--again", help="Make it anew although it is there; the old set stays until the new one is whole."),
]


def stated_shares(
    damaged: str | None, filtered: str | None, duplicate: str | None, unavailable: str | None
) -> dict[str, str]:
    """The bounds given with ``--max-…``, by the class of the ledger that they are for.

    Args:
        damaged: of ``--max-damaged``, as typed; None where it was not given.
        filtered: of ``--max-filtered``, likewise.
        duplicate: of ``--max-duplicate``.
        unavailable: of ``--max-unavailable``.
    """
    shares = {"damaged": damaged, "filtered": filtered, "duplicate": duplicate, "unavailable": unavailable}
    return {why: share for why, share in shares.items() if share is not None}


def report(job: Preparation, made: bool, result: PreparedResult | None = None) -> dict[str, Any]:
    """Print what a set holds and, by class, what was left out; returns the same as JSON."""
    from skillnet_cli.data.prepared import PreparedSet

    prepared = PreparedSet.open(job.out)
    if prepared.manifest.name != job.dataset.name:
        raise UserError(f"{job.out} holds the set '{prepared.manifest.name}': choose another folder with --out")
    remark(f"{job.out}{'' if made else ' is complete already'}: {summary(prepared)}")
    for why, reasons in (result.reasons if result else {}).items():
        shown = "; ".join(f"{count:,} × {reason}" for reason, count in reasons[:_REASONS])
        remark(f"  {why}: {shown}{'; …' if len(reasons) > _REASONS else ''}")
    return {**describe(prepared), "made": made}


def summary(prepared: PreparedSet) -> str:
    """What a set holds, in a line: its splits, and what its ledger left out."""
    splits = [f"{facts.items:,} {split}" for split, facts in prepared.manifest.splits.items()]
    left_out = [f"{count:,} {kind}" for kind, count in prepared.manifest.ledger.items() if kind != "kept" and count]
    return ", ".join(splits) + (f" ({', '.join(left_out)} left out)" if left_out else "")


def describe(prepared: PreparedSet) -> dict[str, Any]:
    """What a set holds, as JSON."""
    manifest = prepared.manifest
    return {
        "name": manifest.name,
        "path": str(prepared.path),
        "splits": {split: facts.items for split, facts in manifest.splits.items()},
        "ledger": manifest.ledger,
        "licence": manifest.licence,
    }
