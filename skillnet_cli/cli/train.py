"""``skillnet pretrain``, ``skillnet finetune`` and ``skillnet verify resume``: the stages of a recipe."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.cli.checkpoint import hush_transformers
from skillnet_cli.cli.common import (
    AsJson,
    Data,
    Group,
    Overrides,
    RecipeFile,
    print_json,
    print_layout,
    print_line,
    remark,
)
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.engine.estimate.forecast import Forecast, TaskForecast
    from skillnet_cli.engine.verify_resume import Comparison
    from skillnet_cli.recipe import Recipe

app = typer.Typer(cls=Group, help="Show that a training does what it promises.")

Nproc = Annotated[int, typer.Option(min=1, max=1024, help="Processes on this machine.")]
RUNS = Path("runs")

STAGES = {
    "pretrain": """Run the [pretrain] stage of a recipe.

A run that was stopped resumes from its last checkpoint. --plan looks ahead: at the data and what is missing from it, at
parameters and FLOPs, and at memory and time, measured with a dry run of each task on its longest items.

\b
Examples:
  skillnet pretrain recipes/demo.toml
  skillnet pretrain recipes/paper.toml --plan --on a100-40g:64
  skillnet pretrain recipes/demo.toml --set pretrain.steps=200 --set name=trial
  skillnet pretrain recipes/paper.toml --nproc 8
""",
    "finetune": """Run the [finetune] stage of a recipe.

All its tasks are trained jointly. A run that was stopped resumes from its last checkpoint. --plan looks ahead, as it
does for skillnet pretrain.

\b
Examples:
  skillnet finetune recipes/demo.toml
  skillnet finetune recipes/demo.toml --set finetune.start_from=fresh --set name=demo-fresh
  skillnet finetune recipes/paper.toml --nproc 8 --nnodes 2 --rdzv-endpoint host0:29500
""",
}
"""The stages of a recipe, each a command of its own, and their help."""


def stage_command(stage: str) -> Callable[..., None]:
    """The command that trains a stage; the options of both are declared here once."""

    def train(
        recipe: RecipeFile,
        set_: Overrides = None,
        data: Data = None,
        runs: Annotated[Path, typer.Option(help="The folder of runs.")] = RUNS,
        nproc: Nproc = 1,
        nnodes: Annotated[int, typer.Option(min=1, max=1 << 16, help="Machines that train together.")] = 1,
        rdzv_endpoint: Annotated[
            str | None,
            typer.Option(metavar="HOST:PORT", help="Where several machines meet; the same on all.", show_default=False),
        ] = None,
        max_restarts: Annotated[int, typer.Option(min=0, help="How often to restart a process group that failed.")] = 0,
        allow_data_change: Annotated[
            bool,
            typer.Option(
                "--allow-data-change", help="Resume although shards are missing or have changed; leave out broken ones."
            ),
        ] = False,
        plan: Annotated[
            bool, typer.Option("--plan", help="Show what the stage will do and need, and stop there.")
        ] = False,
        on: Annotated[
            str | None,
            typer.Option(
                metavar="NAME:COUNT", help="With --plan: on this hardware, such as a100-40g:64.", show_default=False
            ),
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Check the recipe, then train the stage in ``runs/NAME``, or look ahead at it."""
        if (on or as_json) and not plan:
            raise UserError(f"{'--on' if on else '--json'} belongs to --plan: add --plan")
        # A lost rank gets one line from us; torch's sockets would add a page of C++ frames for each other rank.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        loaded = _open_recipe(recipe, set_, runs)
        if plan:
            return _look_ahead(loaded, stage, data or (), runs, (nproc, nnodes), on, as_json)

        from skillnet_cli.data.prepared import data_roots
        from skillnet_cli.engine.launch import Processes, launch
        from skillnet_cli.engine.signals import Stopped

        hush_transformers()
        processes = Processes(nproc, nnodes, rdzv_endpoint, max_restarts)
        try:
            roots = data_roots(data or ())
            launch(loaded, stage, load_registry(), runs / loaded.name, roots, processes, allow_data_change)
        except Stopped as stopped:
            remark(str(stopped))
            raise typer.Exit(128 + stopped.number) from stopped

    return train


def _look_ahead(
    recipe: Recipe,
    stage: str,
    data: Sequence[Path],
    runs: Path,
    processes: tuple[int, int],
    on: str | None,
    as_json: bool,
) -> None:
    """Print what a stage will do and need; nothing is trained or written. Exit code 2 where it could not work."""
    if stage not in recipe.stages():
        raise UserError(f"the recipe '{recipe.name}' has no [{stage}]; it has {' and '.join(recipe.stages())}")

    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.data.progress import choose_progress
    from skillnet_cli.engine.estimate.cost import Accelerators
    from skillnet_cli.engine.estimate.forecast import Cluster, forecast

    hush_transformers()
    cluster = Cluster(*processes, Accelerators.parse(on) if on else None)
    found = forecast(recipe, stage, load_registry(), data_roots(data), cluster, runs / recipe.name, choose_progress())
    if as_json:
        print_json(found.as_json())
    else:
        _print_forecast(found)
    if found.problems:
        raise typer.Exit(2)


SHOWN = 5
"""Differences printed before the rest is only counted."""


@app.command("resume")
def verify_resume(
    recipe: RecipeFile,
    set_: Overrides = None,
    data: Data = None,
    steps: Annotated[int, typer.Option(min=3, help="Updates to train.")] = 12,
    stage: Annotated[str | None, typer.Option(help="pretrain or finetune.", show_default="the recipe's first")] = None,
    nproc: Nproc = 1,
    as_json: AsJson = False,
) -> None:
    """Show that a training which is killed resumes as if nothing had happened.

    Trains a few steps of the recipe in a temporary folder, twice: undisturbed, and killed by SIGKILL in the middle and
    resumed. Then every parameter, every value of the optimizer's state and every row of metrics.jsonl (except times)
    must be the same to the bit; the exit code is 1 if they are not. On a GPU this needs --set
    train.deterministic=true.

    \b
    Examples:
      skillnet verify resume demo
      skillnet verify resume recipes/demo.toml --stage finetune --steps 26 --nproc 2 --set model.dropout=0.1
    """
    loaded = _open_recipe(recipe, set_)
    chosen = stage or next(iter(loaded.stages()))
    if chosen not in loaded.stages():
        raise UserError(f"--stage {chosen}: the recipe has {' and '.join(loaded.stages())}")

    from skillnet_cli.engine.verify_resume import verify_resume

    found = verify_resume(loaded, chosen, steps, nproc, data or (), remark)
    if as_json:
        print_json({"same": not found.differences, **asdict(found)})
    else:
        for line in _lines(found):
            print_line(line)
    if found.differences:
        raise FailedJob(f"{len(found.differences)} differences: the resumed run differs from the undisturbed one")


def _lines(found: Comparison) -> list[str]:
    """What was compared, and the first differences."""
    many = {name: f"{found.tensors[name]:,} tensors ({found.values[name]:,} values)" for name in found.tensors}
    compared = [
        f"{found.stage}: {found.steps} steps of {', '.join(found.tasks)}; killed after step "
        f"{found.killed_after}, resumed from step {found.resumed_from}",
        f"compared: {found.rows} updates; {', '.join(f'{what} of the {name}' for name, what in many.items())}",
    ]
    if not found.differences:
        return [*compared, "the same to the bit"]
    rest = len(found.differences) - SHOWN
    more = [f"  and {rest} more"] if rest > 0 else []
    return [*compared, *(f"  {difference}" for difference in found.differences[:SHOWN]), *more]


def _open_recipe(recipe: Path, overrides: list[str] | None, runs: Path | None = None) -> Recipe:
    """A recipe by its file or by the name of a shipped one, with --set applied. Raises UserError as load_recipe."""
    from skillnet_cli.recipe import load_recipe
    from skillnet_cli.recipe.load import find_recipe

    return load_recipe(find_recipe(recipe), overrides or (), load_registry(), runs)


def _print_forecast(found: Forecast) -> None:
    """Print a look ahead at a stage on standard output."""
    for line in _head(found):
        print_line(line)
    print_layout(_work(found))
    print_layout(_needs(found))
    for line in _tail(found):
        print_line(line)


def _head(found: Forecast) -> Iterator[str]:
    frozen = found.parameters - found.trained
    yield (
        f"{found.stage} of {found.recipe}: {found.steps:,} updates at lr {found.lr:g} ({found.schedule}, "
        f"{found.warmup:,} to warm up)"
    )
    yield (
        f"{found.parameters / 1e6:.1f} M parameters{f', {frozen / 1e6:.1f} M of them frozen' if frozen else ''}, "
        f"{found.precision}, {found.strategy}, on {found.place}"
    )


def _work(found: Forecast) -> object:
    """What every task does."""
    titles = (
        "task",
        "share",
        "batch",
        "items",
        "epochs",
        "shards",
        "negatives",
        "ln B",
        "activated",
        "tokens",
        "updates",
    )
    ratios = sum(task.ratio for task in found.tasks.values())
    rows = [
        (
            name,
            f"{task.ratio}/{ratios}",
            f"{task.batch:,}",
            "not here" if task.items is None else f"{task.items:,}",
            _number(task.epochs),
            f"{task.shards:,}" if task.shards else "-",
            "-" if task.negatives is None else f"{task.negatives:,}",
            "-" if task.chance is None else f"{task.chance:.2f}",
            f"{task.activated / 1e6:.1f} M",
            _tokens(task),
            f"{task.updates:,.0f}",
        )
        for name, task in found.tasks.items()
    ]
    return _table(titles, rows)


def _needs(found: Forecast) -> object:
    """What every task needs."""
    strategies = list(dict.fromkeys(key for task in found.tasks.values() for key in task.memory))
    titles = ("task", "FLOPs/item", "/update", "s/update", "items/s", "MB/item", *strategies, "micro-batch")
    rows = [
        (
            name,
            _scaled(task.flops),
            _scaled(task.flops_an_update),
            _number(task.seconds),
            _number(task.batch / task.seconds if task.seconds else None),
            _number(task.item_bytes and task.item_bytes / 1e6),
            *(_memory(task, each, found.memory) for each in strategies),
            _micro_batch(task, found),
        )
        for name, task in found.tasks.items()
    ]
    return _table(titles, rows)


def _tail(found: Forecast) -> Iterator[str]:
    if found.flops is not None and found.seconds is not None:
        ranks = f" ({found.seconds * found.ranks / 3600:,.0f} GPU-hours)" if "×" in found.place else ""
        yield (
            f"in all {_scaled(found.flops)}FLOP, {_number(found.updates_a_second)} updates/s, "
            f"ETA {_time(found.seconds)}{ranks}"
        )
    kept = found.checkpoints + 1
    yield (
        f"checkpoints: {found.checkpoint_bytes / 1e9:.2f} GB each, {found.checkpoints} kept and one being written: "
        f"{kept * found.checkpoint_bytes / 1e9:.1f} GB of disk"
    )
    for name, lines in (("assumed", found.assumptions), ("missing", found.missing), ("problem", found.problems)):
        for line in lines:
            yield f"{name}: {line}"


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> object:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _memory(task: TaskForecast, strategy: str, most: float) -> str:
    if strategy not in task.memory:
        return "not known"
    needed = task.memory[strategy]
    return f"{needed / 2**30:.1f} GiB{'' if needed <= most else ' !'}"


def _micro_batch(task: TaskForecast, found: Forecast) -> str:
    """The one of the recipe's strategy, and whether it is the rank's whole share."""
    if task.batch < found.ranks:
        return "-"
    fits = task.suggested.get(found.strategy, task.suggested.get("replicate"))
    if fits is None:
        return "not known"
    whole = " (all)" if fits >= task.batch // found.ranks else ""
    return f"{fits:,}{whole}" if fits else "none fits"


def _tokens(task: TaskForecast) -> str:
    if task.tokens is None:
        return "not known"
    return f"{task.tokens:,}" if task.mean_tokens is None else f"{task.mean_tokens:,.0f} of {task.tokens:,}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def _scaled(value: float | None) -> str:
    """A number with its unit, such as ``1.2 T``."""
    if value is None:
        return "not known"
    for power, unit in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M")):
        if value >= 10**power:
            return f"{value / 10**power:.3g} {unit}"
    return f"{value:.3g} "


def _time(seconds: float) -> str:
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.1f} days"
    if seconds >= 2 * 3_600:
        return f"{seconds / 3_600:.1f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
