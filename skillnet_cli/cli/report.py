"""``skillnet report``: the page of a run, or of several beside one another."""

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
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", help="Runs' folders.", show_default="that of the newest model"),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="The page to write.", show_default="report.html in the run, or beside the first of several"),
    ] = None,
    data: Data = None,
) -> None:
    """Write the page of a run, or the learning curves of several runs in one picture.

    The page of one run shows figures, learning curves, and what the model finds, hears and says. That of several has a
    chart for each task's metric over updates, with a line for each run. The figures are those that training and
    skillnet eval have kept in the runs' results.json.

    \b
    Examples:
      skillnet report runs/demo
      skillnet report runs/demo runs/demo-fresh --to figure5.html
    """
    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.evaluation.comparison import write_comparison
    from skillnet_cli.evaluation.report import REPORT, write_report

    folders = runs or [choose_checkpoint(None).parent]
    for folder in folders:
        if not (folder / "recipe.toml").is_file():
            raise UserError(f"{folder} is not a run (recipe.toml is missing)")
    if len(folders) == 1:
        written = write_report(folders[0], load_registry(), data_roots(data or ()), to)
    else:
        written = write_comparison(folders, to or folders[0].resolve().parent / REPORT)
    remark(f"wrote {written}")
