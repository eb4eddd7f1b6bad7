"""``skillnet report``: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.checkpoint import choose_checkpoint
from skillnet_cli.cli.options import Data
from skillnet_cli.cli.output import remark
from skillnet_cli.plugins import load_registry


def report(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="The run's folder.", show_default="that of the newest model")
    ] = None,
    data: Data = None,
) -> None:
    """Write the page of a run, report.html.

    It shows figures, learning curves, and what the model finds, hears and says. The figures are those that training
    and skillnet eval have kept in the run's results.json.

    \b
    Example:
      skillnet report runs/demo
    """
    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.evaluation.report import write_report

    folder = run or choose_checkpoint(None).parent
    if not (folder / "recipe.toml").is_file():
        raise UserError(f"{folder} is not a run (recipe.toml is missing)")
    remark(f"wrote {write_report(folder, load_registry(), data_roots(data or ()))}")
