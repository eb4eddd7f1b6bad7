"""What the preparer of a data set is: its input as ranges, each read on its own, and steps over all items at the end.

A preparer says three things. :meth:`Preparer.ranges` divides the input; :meth:`Preparer.read` turns one range into
verdicts, in a process that knows nothing of other ranges; the rest (who is a copy of whom, random splits, label
spaces) happens once, over short facts about the items, when all ranges are done. So the engine may read the ranges in
any order, in any number of processes and machines, and go on after a kill, and the set is the same to the byte.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias, runtime_checkable

from skillnet_cli.data.format import Rejection
from skillnet_cli.prepare.job import Preparation
from skillnet_cli.sources.trees import Tree


@dataclass(frozen=True)
class Kept:
    """An item that is to be kept.

    Attributes:
        split: its split, or a pool that :meth:`Preparer.deal` divides later.
        id: unique within the split; a later item with the same id becomes a duplicate.
        fields: what JSON can say: texts as a list of strings, labels, transcripts, numbers.
        media: field -> (encoded bytes, suffix with its dot).
        content: what makes two items the same one; a later item of the set with equal content becomes a duplicate.
            None: no content of this item is compared.
        facts: a short JSON value for the steps at the end (:meth:`Preparer.judge`, :meth:`Preparer.finish`).
    """

    split: str
    id: str
    fields: dict[str, Any]
    media: Mapping[str, tuple[bytes, str]] = field(default_factory=dict)
    content: bytes | str | None = None
    facts: Any = None


@dataclass(frozen=True)
class Rejected:
    """An item that is left out, with the class and the reason that go into the ledger."""

    split: str
    id: str
    why: Rejection
    reason: str


Verdict: TypeAlias = Kept | Rejected


@dataclass(frozen=True)
class Range:
    """A piece of the input that is read on its own; ``payload`` is any JSON value that says which.

    ``splits`` are the splits (or pools) that its items may belong to, where that is known: under ``--limit`` a range
    whose splits are full is not read at all.
    """

    name: str
    payload: Any = None
    splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deal:
    """How a pool is divided: so many of its items for each split, at random by the seed, or in order of the input."""

    sizes: Mapping[str, int]
    shuffled: bool = True


@dataclass(frozen=True)
class Ending:
    """What the manifest says at last: what each target can be, further choices, and files to lie in ``assets``."""

    targets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)
    assets: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """An item as the steps at the end see it; ``place`` counts what the ranges kept, in order of the input."""

    place: int
    split: str
    id: str
    facts: Any


@runtime_checkable
class Items(Protocol):
    """The items that are still kept, in order of the input. Iterating reads them from the disk, as often as wished."""

    def __iter__(self) -> Iterator[Item]: ...

    def reject(self, place: int, why: Rejection, reason: str) -> None:
        """Leave an item out after all; it takes effect when the step ends."""

    def id_of(self, place: int) -> str:
        """The id of the item at a place, for reasons that name it."""


class Preparer(ABC):
    """Prepares one data set: subclass it, and name the class in ``Dataset.prepare``.

    An object is made in every process, so what it holds must follow from ``job`` alone. ``self.folder`` is a folder
    of the set in the making: :meth:`begin` writes there what all ranges need, and every process can read it. The steps
    at the end (:meth:`judge` and what follows it) have ``self.folder`` and the options, but no sources: a merge may
    run where there are none.

    Files of ``self.files`` that are not touched (links, devices, paths that lead out) become rows of the ledger.

    Attributes:
        version: of the preparer; another one gives other bytes and makes no use of parts that were begun.
        shard_items: items a shard.
        independent: no step looks at several ranges: no copies are looked for between them, nothing is dealt, and each
            range becomes one shard a split, by renaming. For sets too large to be written twice.
        pools: pool -> the splits that it is dealt into.
    """

    version = "1"
    shard_items = 1000
    independent = False
    pools: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, job: Preparation) -> None:
        self.job = self.specified(job)
        self.folder = job.folder

    @classmethod
    def specified(cls, job: Preparation) -> Preparation:
        """The job once its options have had their say about ``job.dataset``: what is published, under which licence.

        Asked before anything is fetched; applied twice it must give the same as once.
        """
        return job

    @cached_property
    def files(self) -> Tree:
        """The sources as one tree of files, wherever they lie: folders, zips, tars, single files."""
        return Tree(self.job.paths, self.folder)

    def begin(self) -> None:  # noqa: B027 - most sets need nothing
        """Make what all ranges need in ``self.folder``, before :meth:`ranges`; done once, under a lock."""

    @abstractmethod
    def ranges(self) -> Sequence[Range]:
        """The input in order; the same for the same sources and options, whatever the number of processes."""

    @abstractmethod
    def read(self, range: Range) -> Iterator[Verdict]:
        """The verdict on every item of a range, in order.

        Raises:
            DamagedItem: the rest of the range cannot be read; that becomes a row of the ledger.
        """

    def judge(self, items: Items) -> None:  # noqa: B027
        """Leave out further items, near copies for instance, by ``items.reject``; exact copies are gone already."""

    def large_enough(self, sizes: Mapping[str, int]) -> bool:
        """Whether the set is of the paper's size and its division the default; ``sizes``: split -> items."""
        return True

    def pool(self, split: str, protocol: str | None) -> str:
        """The pool that a split's items go into before pools are dealt, now that the division is known; else itself."""
        return split

    def deal(self, pool: str, size: int, protocol: str | None) -> Deal | None:
        """How one of ``pools`` with ``size`` items is divided; None leaves it as a split of its own name."""
        return None

    def finish(self, items: Items, protocol: str | None) -> Ending:
        """The label spaces and so on, of the items as they are in the end. The items can no longer be rejected."""
        return Ending()


def divide(size: int, published: Mapping[str, int], rest: str | None = None) -> dict[str, int]:
    """Sizes of the splits of ``size`` items: as published where there are enough items, else in that proportion.

    Args:
        size: items to divide.
        published: split -> its items in the paper.
        rest: the split that takes what is over; without it, items beyond the published sizes are left to nobody.
    """
    total = sum(published.values())
    if size >= total:
        sizes = dict(published)
    else:
        edges = [0]
        for items in published.values():
            edges.append(edges[-1] + items)
        cut = [round(size * edge / total) for edge in edges]
        sizes = {name: cut[place + 1] - cut[place] for place, name in enumerate(published)}
    if rest is not None:
        sizes[rest] = sizes.get(rest, 0) + size - sum(sizes.values())
    return sizes
