"""One data set from its sources to a prepared set: plan, read the ranges, put the parts together."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from skillnet_cli.api import Dataset, FailedJob, UserError
from skillnet_cli.data.format import (
    ASSETS,
    MANIFEST,
    WORK,
    Entry,
    Ledger,
    Manifest,
    ShardFacts,
    SplitFacts,
    shard_stem,
    tables_of,
)
from skillnet_cli.data.progress import Progress
from skillnet_cli.files import disk_errors, make_folder, replace_path, write_whole
from skillnet_cli.prepare.items import Table, take_steps
from skillnet_cli.prepare.part import PartFacts, part_folder, read_part
from skillnet_cli.prepare.preparer import Preparation, Preparer, Range, Summary
from skillnet_cli.prepare.workdir import Plan, Work, facts_of
from skillnet_cli.prepare.workers import Fill, read_ranges
from skillnet_cli.prepare.writer import SplitWriter, check_kept, check_kinds, clear_set


def _write_ledger(table: Table, out: Path) -> tuple[str, Ledger]:
    """Write the ledger's rows in order of the input; returns its sha256, and the ledger for its counts."""
    ledger = Ledger(out)
    rejected = itertools.chain(table.rejections, itertools.repeat((-1, "", "")))
    next_place, why, reason = next(rejected)
    for place, entry, _ in table.rows():
        if place is not None:
            split = table.names[table.split[place]]
            entry = replace(entry, split=split)
            if place == next_place:
                entry = Entry(split, entry.id, why, reason)
                next_place, why, reason = next(rejected)
        ledger.add(entry)
    return ledger.finish(), ledger


def _copy_samples(table: Table, out: Path, shard_items: int, progress: Progress, what: str) -> dict[str, SplitFacts]:
    """Write the samples of kept items, as they are, into shards of ``shard_items``."""
    writers: dict[str, SplitWriter] = {}
    numbers = progress.track(range(len(table.numbers)), len(table.numbers), what)
    try:
        for part in numbers:
            start = int(table.starts[part])
            for place, (region, shape) in enumerate(_samples(table, part), start):
                if table.alive[place]:
                    split = table.names[table.split[place]]
                    if split not in writers:
                        writers[split] = SplitWriter(out, split, shard_items)
                    writers[split].append(region, shape)
        return {split: writers[split].finish() for split in sorted(writers)}
    finally:
        for writer in writers.values():
            writer.close()


def _samples(table: Table, part: int) -> Iterator[tuple[bytes, dict[str, str]]]:
    """The samples of a part in order of the input, each with the kinds of its fields."""
    facts = table.parts[part]
    folder = part_folder(table.work, table.numbers[part])
    shards = [_regions(folder / shard.file) for shard in facts.splits.values()]
    for split, shape in table.kept(part):
        yield next(shards[split]), facts.shapes[shape]


def _regions(path: Path) -> Iterator[bytes]:
    """The bytes of a shard's samples. Raises FailedJob where they are not as they were written."""
    offsets, checks = (np.load(each, allow_pickle=False) for each in tables_of(path))
    with open(path, "rb") as file:
        for size, check in zip(np.diff(offsets), checks, strict=True):
            region = file.read(size)
            if zlib.crc32(region) != check:
                raise FailedJob(f"{path}: altered or damaged: delete its folder and run prepare again")
            yield region


def _move_shards(table: Table, out: Path) -> dict[str, SplitFacts]:
    """Rename the shards of the parts to those of the set; goes on where a kill ended it."""
    shards: dict[str, list[ShardFacts]] = {}
    fields: dict[str, set[str]] = {}
    for place, (number, part) in enumerate(zip(table.numbers, table.parts, strict=True)):
        for split, facts in part.splits.items():
            there = shards.setdefault(split, [])
            name = f"{shard_stem(split, len(there))}.tar"
            _move(part_folder(table.work, number) / facts.file, out / name)
            there.append(facts.model_copy(update={"file": name}))
            found = _common_fields(table, place, part, split)
            fields[split] = fields[split] & found if split in fields else found
    return {
        split: SplitFacts(
            items=sum(shard.items for shard in each), fields=tuple(sorted(fields[split])), shards=tuple(each)
        )
        for split, each in sorted(shards.items())
    }


def _common_fields(table: Table, place: int, part: PartFacts, split: str) -> set[str]:
    kept = table.kept(place)
    shapes = np.unique(kept[kept[:, 0] == list(part.splits).index(split), 1])
    return set.intersection(*(set(part.shapes[shape]) for shape in shapes))


def _move(source: Path, target: Path) -> None:
    with disk_errors(target):
        for old, new in zip((source, *tables_of(source)), (target, *tables_of(target)), strict=True):
            if old.exists():
                replace_path(new, old)
            elif not new.exists():
                raise FailedJob(f"{old}: missing: delete its folder and run prepare again")


def _all_kinds(table: Table) -> dict[str, str]:
    """Field -> what it holds, over all kept items. Raises ValueError where it holds two kinds of things."""
    kinds: dict[str, str] = {}
    for place, part in enumerate(table.parts):
        alive = table.alive[table.starts[place] : table.starts[place + 1]]
        shapes, lasts = np.unique(table.kept(place)[alive, 1][::-1], return_index=True)
        for shape in shapes[np.argsort(-lasts)]:
            check_kinds(kinds, part.shapes[shape])
            kinds |= part.shapes[shape]
    return dict(sorted(kinds.items()))


def _write_assets(out: Path, assets: Mapping[str, bytes]) -> dict[str, Any]:
    """Write files beside the shards; returns what the manifest says of them."""
    if not assets:
        return {}
    make_folder(out / ASSETS, "name another folder with --out")
    found = {name: write_whole(out / ASSETS / name, content) for name, content in sorted(assets.items())}
    return {"assets": found}


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
    job = kind.configure(job)
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
            preparer.setup()
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
        parts = _used_parts(preparer, plan, work)
        if not preparer.independent or preparer.job.limit is not None:
            clear_set(preparer.job.out)
        return _put_together(preparer, Table(work.folder, parts), facts["version"], work)


def _used_parts(preparer: Preparer, plan: Plan, work: Work) -> list[tuple[int, PartFacts]]:
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
    sha256, ledger = _write_ledger(table, out)
    advice = f"see {out / 'ledger.jsonl'}, or allow more and run it again (nothing is read twice)"
    job.tolerance.check(name, ledger.counts, ledger.reasons, advice)
    check_kept(name, ledger.counts, out)
    summary = preparer.finish(table, protocol)
    if preparer.independent and job.limit is None:
        splits = _move_shards(table, out)
    else:
        splits = _copy_samples(table, out, preparer.shard_items, job.progress, f"{name}: parts put together")
    manifest = Manifest(
        name=name,
        version=version,
        licence=job.dataset.licence,
        source=job.sources or tuple(each.url for each in job.dataset.published),
        seed=job.seed,
        choices=_choices(job, protocol, summary),
        fields=_all_kinds(table),
        targets={field: list(values) for field, values in summary.targets.items()},
        splits=splits,
        ledger=ledger.counts,
        ledger_sha256=sha256,
        **_write_assets(out, summary.assets),
    )
    table.rejections.close()
    write_whole(out / MANIFEST, manifest.encode())
    work.remove()
    return Account(manifest, ledger.reasons)


def _choices(job: Preparation, protocol: str | None, summary: Summary) -> dict[str, Any]:
    """What was chosen: the split, the limit, the data set's own options, and what the preparer adds."""
    split = {"split": protocol} if protocol else {}
    return {**split, "limit": job.limit, **job.recorded_options, **summary.choices}


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
