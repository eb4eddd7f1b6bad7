"""Prints what ``--plan`` found out: a table a person reads in a terminal, plain where it is piped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skillnet_cli.engine.forecasting.prospects import Forecast, TaskForecast

WIDTH = 100


def print_forecast(found: Forecast) -> None:
    """Print a look ahead at a stage on standard output."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=WIDTH)
    for line in _head(found):
        console.print(line, soft_wrap=True)
    console.print(_work(found))
    console.print(_needs(found))
    for line in _tail(found):
        console.print(line, soft_wrap=True)


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
        table.add_column(title, justify="right" if place else "left", no_wrap=place == 0)
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
