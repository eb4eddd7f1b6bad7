"""Puts parts together: samples into the shards of their splits, rows into the ledger, all of it into a manifest."""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skillnet_cli.api import FailedJob
from skillnet_cli.data.files import disk, make_folder, sync_folder, write_whole
from skillnet_cli.data.ledger import Entry, Ledger
from skillnet_cli.data.manifest import ASSETS, ShardFacts, SplitFacts
from skillnet_cli.data.parts.part import PartFacts, part_folder
from skillnet_cli.data.parts.table import Table
from skillnet_cli.data.progress import Progress
from skillnet_cli.data.shards import shard_stem, tables_of
from skillnet_cli.data.split_writer import SplitWriter
from skillnet_cli.data.writer import check_kinds


def write_ledger(table: Table, out: Path) -> tuple[str, Ledger]:
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


def copy_samples(table: Table, out: Path, shard_items: int, progress: Progress, what: str) -> dict[str, SplitFacts]:
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


def move_shards(table: Table, out: Path) -> dict[str, SplitFacts]:
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
    with disk(target):
        for old, new in zip((source, *tables_of(source)), (target, *tables_of(target)), strict=True):
            if old.exists():
                os.replace(old, new)
            elif not new.exists():
                raise FailedJob(f"{old}: missing: delete its folder and run prepare again")


def all_kinds(table: Table) -> dict[str, str]:
    """Field -> what it holds, over all kept items. Raises ValueError where it holds two kinds of things."""
    kinds: dict[str, str] = {}
    for place, part in enumerate(table.parts):
        alive = table.alive[table.starts[place] : table.starts[place + 1]]
        shapes, lasts = np.unique(table.kept(place)[alive, 1][::-1], return_index=True)
        for shape in shapes[np.argsort(-lasts)]:
            check_kinds(kinds, part.shapes[shape])
            kinds |= part.shapes[shape]
    return dict(sorted(kinds.items()))


def write_assets(out: Path, assets: Mapping[str, bytes]) -> dict[str, Any]:
    """Write files beside the shards; returns what the manifest says of them."""
    if not assets:
        return {}
    make_folder(out / ASSETS, "name another folder with --out")
    found = {name: write_whole(out / ASSETS / name, content) for name, content in sorted(assets.items())}
    sync_folder(out / ASSETS)
    return {"assets": found}
