"""One data set from its sources to a prepared set: plan, read the ranges, put the parts together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skillnet_cli.api import Dataset, UserError
from skillnet_cli.data.files import make_folder, sync_folder, write_whole
from skillnet_cli.data.manifest import MANIFEST, WORK, Manifest
from skillnet_cli.data.parts.collecting import all_kinds, copy_samples, move_shards, write_assets, write_ledger
from skillnet_cli.data.parts.part import PartFacts, read_part
from skillnet_cli.data.parts.reading import Fill, read_ranges
from skillnet_cli.data.parts.steps import take_steps
from skillnet_cli.data.parts.table import Table
from skillnet_cli.data.parts.work import Plan, Work, facts_of
from skillnet_cli.data.prepare import Preparation
from skillnet_cli.data.preparer import Ending, Preparer, Range
from skillnet_cli.data.writer import check_kept, clear_set


@dataclass(frozen=True)
class Account:
    """What became of all items: the manifest, and for each class the most frequent reasons and their items."""

    manifest: Manifest
    reasons: Mapping[str, Sequence[tuple[str, int]]]


def run(kind: type[Preparer], job: Preparation) -> Account | None:
    """Prepare a set, or its share of one (then None: :func:`merge` makes the set). What is done already is kept.

    Raises:
        UserError: the folder was begun with other inputs, or another process is at it; the source is wrong.
        FailedJob: too many items are damaged, the disk is full, or the machine fails. Run it again to go on.
    """
    work = Work(job.out)
    job = kind.specified(job)
    job = replace(job, paths=job.fetch_sources())
    _check_folder(job.out)
    work.make()
    with work.share(job):
        with work.alone():
            preparer, ranges, plan = _begin(kind, job, work)
        read_ranges(preparer, ranges, plan)
        # What follows has no sources, as a merge on another machine would have none.
        return None if job.share else merge(kind(replace(job, paths=())), work)


def _begin(kind: type[Preparer], job: Preparation, work: Work) -> tuple[Preparer, Sequence[Range], Plan]:
    """Make what all ranges need and plan, or find both done."""
    work.agree(facts_of(job, kind.version))
    make_folder(job.folder, "name another folder with --out")
    preparer = kind(job)
    try:
        if not work.begun:
            preparer.begin()
        ranges = preparer.ranges()
    except UserError:
        work.withdraw()
        raise
    refused = preparer.files.refused if "files" in vars(preparer) else ()
    return preparer, ranges, work.plan(ranges, refused)


def merge(preparer: Preparer, work: Work) -> Account:
    """Put the parts together. Raises UserError where a range is missing, FailedJob where too much was left out."""
    facts, plan = work.read_plan()
    with work.alone():
        parts = used_parts(preparer, plan, work)
        if not preparer.independent or preparer.job.limit is not None:
            clear_set(preparer.job.out)
        return _put_together(preparer, Table(work.folder, parts), facts["version"], work)


def used_parts(preparer: Preparer, plan: Plan, work: Work) -> list[tuple[int, PartFacts]]:
    """The parts that the set is made of, with the places of their ranges. Raises UserError where one is missing."""
    fill, used, missing = Fill(preparer), [], []
    for place, splits in enumerate(plan.splits):
        if not fill.needs(splits):
            continue
        part = read_part(work.folder, place)
        if part is None:
            missing.append(place)
        else:
            used.append((place, part))
            fill.add(part)
    if missing:
        raise UserError(
            f"{work.out}: {len(missing)} of {len(plan)} ranges are still to be read (the first is range {missing[0]}): "
            "run 'skillnet prepare NAME --shard I/N' for every I, or without --shard"
        )
    return used


def _put_together(preparer: Preparer, table: Table, version: str, work: Work) -> Account:
    job, name, out = preparer.job, preparer.job.dataset.name, preparer.job.out
    protocol = take_steps(table, preparer)
    sha256, ledger = write_ledger(table, out)
    advice = f"see {out / 'ledger.jsonl'}, or allow more and run it again (nothing is read twice)"
    job.tolerance.check(name, ledger.counts, ledger.reasons, advice)
    check_kept(name, ledger.counts, out)
    ending = preparer.finish(table, protocol)
    if preparer.independent and job.limit is None:
        splits = move_shards(table, out)
    else:
        splits = copy_samples(table, out, preparer.shard_items, job.progress, f"{name}: parts put together")
    manifest = Manifest(
        name=name,
        version=version,
        licence=job.dataset.licence,
        source=job.sources or tuple(each.url for each in job.dataset.published),
        seed=job.seed,
        choices=_choices(job, protocol, ending),
        fields=all_kinds(table),
        targets={field: list(values) for field, values in ending.targets.items()},
        splits=splits,
        ledger=ledger.counts,
        ledger_sha256=sha256,
        **write_assets(out, ending.assets),
    )
    table.rejections.close()
    sync_folder(out)
    write_whole(out / MANIFEST, manifest.encode())
    sync_folder(out)
    work.remove()
    return Account(manifest, ledger.reasons)


def _choices(job: Preparation, protocol: str | None, ending: Ending) -> dict[str, Any]:
    """What was chosen: the split, the limit, the data set's own options, and what the preparer adds."""
    options = facts_of(replace(job, paths=()), "")["options"]
    split = {"split": protocol} if protocol else {}
    return {**split, "limit": job.limit, **options, **ending.choices}


def resumed(out: Path, dataset: Dataset, job: Preparation) -> Preparation:
    """The job that the parts in ``out`` were begun with, for a merge; what makes no difference comes from ``job``."""
    facts, _ = Work(out).read_plan()
    absent = {option.name: option.absent for option in dataset.options}
    stored = {option.name: facts["options"][option.name] for option in dataset.options if option.recorded}
    types = {option.name: option.type for option in dataset.options}
    options = {name: _typed(types[name], value) for name, value in stored.items()}
    return replace(
        job,
        sources=tuple(facts["source"]),
        seed=facts["seed"],
        limit=facts["limit"],
        protocol=facts["split"],
        options={**absent, **options},
    )


def _typed(kind: type, value: Any) -> Any:
    """An option's value as the command line gives it."""
    if isinstance(value, list):
        return tuple(kind(each) for each in value)
    return None if value is None else kind(value)


def begun_name(out: Path) -> str:
    """The name of the data set whose parts lie in ``out``. Raises UserError where none do."""
    name: str = Work(out).read_plan()[0]["data set"]
    return name


def _check_folder(out: Path) -> None:
    """Raises UserError where ``out`` holds what is no prepared set's."""
    if out.exists() and not (out / WORK).exists():
        clear_set(out)


__all__ = ["Account", "begun_name", "merge", "resumed", "run"]
