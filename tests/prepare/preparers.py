"""Preparers to try the engine with. Their source is a JSON file: a list of ranges, each a list of items."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, Dataset, DatasetOption
from skillnet_cli.prepare.preparer import (
    Items,
    Kept,
    PoolSplit,
    Preparation,
    Preparer,
    Range,
    Rejected,
    Summary,
    divide,
)

PAPER = {"test": 30, "dev": 20}


class Scripted(Preparer):
    """Gives the items that its source lists: ``[split, id, content or None]``, ``[split, id, class, reason]``, or
    a string, at which the range breaks off. ``pool`` is split into test and dev."""

    shard_items = 3
    pools: Mapping[str, tuple[str, ...]] = {"pool": ("test", "dev")}

    def setup(self) -> None:
        (self.folder / "begun").write_text(str(self.job.seed))

    def ranges(self) -> Sequence[Range]:
        script = json.loads(self.job.paths[0].read_text())
        return [Range(f"range {place}", place, tuple(self.splits(each))) for place, each in enumerate(script)]

    def splits(self, items: Sequence[Any]) -> Sequence[str]:
        """The splits of a range, which are known where all its items are of one."""
        found = {each[0] for each in items}
        return tuple(found) if len(found) == 1 and all(isinstance(each, list) for each in items) else ()

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        assert (self.folder / "begun").read_text() == str(self.job.seed)
        (self.job.out.parent / "reads").open("a").write(f"{range.payload}\n")
        for item in json.loads(self.job.paths[0].read_text())[range.payload]:
            time.sleep(float(os.environ.get("SLOW", 0)))
            if isinstance(item, str):
                raise DamagedItem(item)
            split, id, *rest = item
            if len(rest) == 1:
                fields = {"text": [id], "number": len(id)} if len(id) % 2 else {"text": [id]}
                yield Kept(split, id, fields, {"blob": (id.encode() * 7, ".bin")}, rest[0], facts=len(id))
            else:
                yield Rejected(split, id, *rest)

    def filter(self, items: Items) -> None:
        for item in items:
            if item.id.startswith("bad"):
                items.reject(item.place, "filtered", f"'{item.id}' is bad")

    def large_enough(self, sizes: Mapping[str, int]) -> bool:
        return sizes.get("pool", 0) >= sum(PAPER.values())

    def split(self, pool: str, size: int, protocol: str | None) -> PoolSplit | None:
        return (
            PoolSplit(divide(size, PAPER, rest="dev"))
            if protocol == "paper"
            else PoolSplit({"test": size}, shuffled=False)
        )

    def finish(self, items: Items, protocol: str | None) -> Summary:
        ids = sorted(item.id for item in items if item.split == "train")
        lengths = sum(item.facts for item in items)
        return Summary({"text": ids}, {"lengths": lengths}, {"ids.txt": "".join(ids).encode()})


class Mixed(Scripted):
    """Its ``train`` is split too where the division is the paper's."""

    def pool(self, split: str, protocol: str | None) -> str:
        return "pool" if split == "train" and protocol == "paper" else split


class Independent(Scripted):
    """The same without steps over all items."""

    independent = True
    pools: Mapping[str, tuple[str, ...]] = {}

    def filter(self, items: Items) -> None:
        raise AssertionError("nobody asks")


class Archived(Preparer):
    """Each member of each archive within the source is an item."""

    def ranges(self) -> Sequence[Range]:
        return [Range(leaf.name) for leaf in self.files.named("*.tar")]

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        for member in self.files.read_archive(self.files[range.name]):
            yield Kept("train", f"{range.name}/{member.name}", {"text": [member.read().decode()]})


def dataset(kind: str = "Scripted") -> Dataset:
    return Dataset(
        "scripted",
        f"tests.prepare.preparers:{kind}",
        ("find",),
        "CC0",
        "small",
        protocols=("paper", "official"),
        options=(DatasetOption("colour", "Nothing but a colour.", default="red"),),
    )


def job(script: Path, out: Path, kind: str = "Scripted", **more: Any) -> Preparation:
    return Preparation(dataset(kind), (str(script),), out, **{"options": {"colour": "red"}, **more})


def prepare(script: str, out: str, kind: str, workers: str) -> None:
    """For a process of its own."""
    from skillnet_cli.plugins import resolve
    from skillnet_cli.prepare.run import run

    run(resolve(f"tests.prepare.preparers:{kind}"), job(Path(script), Path(out), kind, workers=int(workers)))
