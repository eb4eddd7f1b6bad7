"""Options that several of this plugin's data sets have."""

from __future__ import annotations

from skillnet_cli.api import UserError
from skillnet_cli.prepare.preparer import Preparation


def side_of(job: Preparation) -> int | None:
    """The short side that pictures are made small to, if they are. Raises UserError where it is none."""
    side = job.options.get("side")
    if side is not None and not 16 <= side <= 4096:
        raise UserError(f"--side: {side} is not between 16 and 4096 pixels")
    return side
