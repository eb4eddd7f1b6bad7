"""``skillnet pretrain`` and ``skillnet finetune``: the two stages of a recipe."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from skillnet_cli.cli.checkpoint import hush_transformers
from skillnet_cli.cli.options import Data, Overrides, Runs

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a TOML file.")]
Nproc = Annotated[int, typer.Option(min=1, help="Processes on this machine.")]
Nnodes = Annotated[int, typer.Option(min=1, help="Machines that train together.")]
Endpoint = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Where several machines meet; the same on all.", show_default=False),
]
Restarts = Annotated[int, typer.Option(min=0, help="How often a failed process group is started again.")]
DataChange = Annotated[
    bool,
    typer.Option("--allow-data-change", help="Go on although shards are gone or others; those broken are left out."),
]
RUNS = Path("runs")


def pretrain(
    recipe: RecipeFile,
    set_: Overrides = None,
    data: Data = None,
    runs: Runs = RUNS,
    nproc: Nproc = 1,
    nnodes: Nnodes = 1,
    rdzv_endpoint: Endpoint = None,
    max_restarts: Restarts = 0,
    allow_data_change: DataChange = False,
) -> None:
    """Run the [pretrain] stage of a recipe.

    A run that was stopped goes on from its last checkpoint.

    \b
    Examples:
      skillnet pretrain recipes/demo.toml
      skillnet pretrain recipes/demo.toml --set pretrain.steps=200 --set name=trial
      skillnet pretrain recipes/paper.toml --nproc 8
    """
    train("pretrain", recipe, set_, data, runs, (nproc, nnodes, rdzv_endpoint, max_restarts), allow_data_change)


def finetune(
    recipe: RecipeFile,
    set_: Overrides = None,
    data: Data = None,
    runs: Runs = RUNS,
    nproc: Nproc = 1,
    nnodes: Nnodes = 1,
    rdzv_endpoint: Endpoint = None,
    max_restarts: Restarts = 0,
    allow_data_change: DataChange = False,
) -> None:
    """Run the [finetune] stage of a recipe.

    All its tasks are trained jointly. A run that was stopped goes on from its last checkpoint.

    \b
    Examples:
      skillnet finetune recipes/demo.toml
      skillnet finetune recipes/demo.toml --set finetune.init=fresh --set name=demo-fresh
      skillnet finetune recipes/paper.toml --nproc 8 --nnodes 2 --rdzv-endpoint host0:29500
    """
    train("finetune", recipe, set_, data, runs, (nproc, nnodes, rdzv_endpoint, max_restarts), allow_data_change)


def train(
    stage: str,
    recipe: Path,
    overrides: list[str] | None,
    data: list[Path] | None,
    runs: Path,
    processes: tuple[int, int, str | None, int],
    allow_data_change: bool,
) -> None:
    """Check the recipe, then train a stage of it in ``runs/NAME``."""
    # A rank that is lost gets one line from us; torch's sockets would add a page of C++ frames for each of the others.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from skillnet_cli.plugins import load_registry
    from skillnet_cli.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or (), load_registry())

    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.engine.launch import Processes, launch
    from skillnet_cli.engine.stopping import Stopped

    hush_transformers()
    try:
        launch(loaded, stage, runs / loaded.name, data_roots(data or ()), Processes(*processes), allow_data_change)
    except Stopped as stopped:
        print(f"skillnet: {stopped}", file=sys.stderr)
        raise typer.Exit(128 + stopped.number) from stopped
