"""``skillnet pretrain`` and ``skillnet finetune``: the two stages of a recipe."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skillnet_cli.api import UserError
from skillnet_cli.cli.checkpoint import hush_transformers
from skillnet_cli.cli.options import AsJson, Data, Overrides, RecipeFile, Runs

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
Plan = Annotated[bool, typer.Option("--plan", help="Say what the stage will do and take, and stop there.")]
On = Annotated[
    str | None,
    typer.Option(metavar="NAME:COUNT", help="With --plan: on this hardware, such as a100-40g:64.", show_default=False),
]
RUNS = Path("runs")

if TYPE_CHECKING:
    from skillnet_cli.recipe import Recipe


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
    plan: Plan = False,
    on: On = None,
    as_json: AsJson = False,
) -> None:
    """Run the [pretrain] stage of a recipe.

    A run that was stopped goes on from its last checkpoint. --plan looks ahead: at the data and what is missing of it,
    at parameters and FLOPs, and at memory and time by a dry batch of each task at its longest.

    \b
    Examples:
      skillnet pretrain recipes/demo.toml
      skillnet pretrain recipes/paper.toml --plan --on a100-40g:64
      skillnet pretrain recipes/demo.toml --set pretrain.steps=200 --set name=trial
      skillnet pretrain recipes/paper.toml --nproc 8
    """
    if plan or on or as_json:
        return look_ahead("pretrain", recipe, set_, data, (nproc, nnodes), plan, on, as_json)
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
    plan: Plan = False,
    on: On = None,
    as_json: AsJson = False,
) -> None:
    """Run the [finetune] stage of a recipe.

    All its tasks are trained jointly. A run that was stopped goes on from its last checkpoint. --plan looks ahead, as
    that of skillnet pretrain does.

    \b
    Examples:
      skillnet finetune recipes/demo.toml
      skillnet finetune recipes/demo.toml --set finetune.init=fresh --set name=demo-fresh
      skillnet finetune recipes/paper.toml --nproc 8 --nnodes 2 --rdzv-endpoint host0:29500
    """
    if plan or on or as_json:
        return look_ahead("finetune", recipe, set_, data, (nproc, nnodes), plan, on, as_json)
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
    loaded = open_recipe(recipe, overrides)

    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.engine.launch import Processes, launch
    from skillnet_cli.engine.stopping import Stopped

    hush_transformers()
    try:
        launch(loaded, stage, runs / loaded.name, data_roots(data or ()), Processes(*processes), allow_data_change)
    except Stopped as stopped:
        print(f"skillnet: {stopped}", file=sys.stderr)
        raise typer.Exit(128 + stopped.number) from stopped


def look_ahead(
    stage: str,
    recipe: Path,
    overrides: list[str] | None,
    data: list[Path] | None,
    processes: tuple[int, int],
    plan: bool,
    on: str | None,
    as_json: bool,
) -> None:
    """Print what a stage will do and take; nothing is trained or written. Exit code 2 where it could not work."""
    if not plan:
        raise UserError(f"{'--on' if on else '--json'} says how to look ahead: add --plan")
    loaded = open_recipe(recipe, overrides)
    if stage not in loaded.stages():
        raise UserError(f"the recipe '{loaded.name}' has no [{stage}]; it has {' and '.join(loaded.stages())}")

    from skillnet_cli.cli.output import print_json
    from skillnet_cli.cli.plan import print_forecast
    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.engine.forecasting.forecast import forecast
    from skillnet_cli.engine.forecasting.hardware import parse_fleet
    from skillnet_cli.engine.forecasting.prospects import Crew
    from skillnet_cli.plugins import load_registry

    hush_transformers()
    crew = Crew(*processes, parse_fleet(on) if on else None)
    found = forecast(loaded, stage, load_registry(), data_roots(data or ()), crew)
    if as_json:
        print_json(found.as_json())
    else:
        print_forecast(found)
    if found.problems:
        raise typer.Exit(2)


def open_recipe(recipe: Path, overrides: list[str] | None) -> Recipe:
    """A recipe by its file or by the name of a shipped one, with --set applied. Raises UserError as load_recipe."""
    from skillnet_cli.plugins import load_registry
    from skillnet_cli.recipe import load_recipe
    from skillnet_cli.recipe.shipped import find_recipe

    return load_recipe(find_recipe(recipe), overrides or (), load_registry())
