"""Which samples a task's k-th update has: a function of the seed and k alone, so nothing needs saving or replaying."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from skillnet_cli.api import UserError
from skillnet_cli.data.permutation import shuffled
from skillnet_cli.data.schedule import BlockOrder

FINEST = 1000
"""Weights that are no whole numbers of a smaller block are rounded to thousandths."""


class Place(NamedTuple):
    """A sample of a stream: which set, which of its items, and how often the stream has been through."""

    set: int
    item: int
    epoch: int


@dataclass(frozen=True)
class _Pool:
    """Items dealt in epochs, each a permutation of its own."""

    size: int
    key: tuple[int, ...]

    def item(self, position: int) -> tuple[int, int]:
        """(item, epoch) at a position of the endless order."""
        epoch, offset = divmod(position, self.size)
        return shuffled(offset, self.size, (*self.key, epoch)), epoch

    def run(self, start: int, count: int) -> list[tuple[int, int]]:
        """``count`` of them from ``start`` on, no item twice where the pool is large enough.

        Only a run across the end of an epoch can meet an item again; the next in order then takes its place.
        """
        found = [self.item(position) for position in range(start, start + count)]
        if count > self.size or start // self.size == (start + count - 1) // self.size:
            return found
        following = start + count
        seen: set[int] = set()
        for place, (item, _) in enumerate(found):
            while item in seen:
                found[place] = self.item(following)
                item = found[place][0]
                following += 1
            seen.add(item)
        return found


class Stream:
    """A task's samples, from one set or several.

    Without weights the sets are shuffled together, so each counts by its size. With weights every block of the
    stream has each set's exact share, and a small set comes round more often. The items of an update are distinct as
    long as it asks no set for more than it holds; a larger batch goes on into the next epoch and repeats items, which
    a contrastive task, whose batch mates are its negatives, must not be given.

    Args:
        sets: the sets' splits, or anything else with a length.
        weights: a positive number for each set, or None.
        batch: samples an update, over all ranks.
        seed: of the order.

    Raises:
        UserError: there is no sample, a set that has a weight is empty, only some have one, or one is not positive.
    """

    def __init__(self, sets: Sequence[Sequence[Any]], weights: Sequence[float] | None, batch: int, seed: int) -> None:
        if weights is not None and len(weights) != len(sets):
            raise UserError("give all data sets of a task a weight, or none")
        self.sets = tuple(sets)
        self.batch = batch
        sizes = [len(each) for each in sets]
        if not sizes or min(sizes if weights else [sum(sizes)]) < 1:
            raise UserError("a data set has no items to train on: prepare it again, or leave it out of the recipe")
        self._weighted = weights is not None
        self._ends = list(accumulate(sizes))
        pools = sizes if weights is not None else [sum(sizes)]
        self._pools = [_Pool(size, (seed, number)) for number, size in enumerate(pools)]
        self._order = BlockOrder(shares([1.0] if weights is None else weights), seed)

    def items(self, k: int) -> list[Place]:
        """The samples of the k-th update, counted from 0."""
        kinds = [self._order.kind(position) for position in range(k * self.batch, (k + 1) * self.batch)]
        runs = {
            kind: iter(self._pools[kind].run(self._order.earlier(k * self.batch, kind), kinds.count(kind)))
            for kind in sorted(set(kinds))
        }
        return [self._place(kind, *next(runs[kind])) for kind in kinds]

    def substitute(self, k: int, slot: int, attempt: int) -> Place:
        """What stands in for the sample at ``slot`` of update k, if that and ``attempt`` substitutes are damaged.

        It is the sample of the same slot some updates later, so no two slots are given the same one, and every rank
        finds its own without asking.
        """
        position = (k + 1 + attempt) * self.batch + slot
        kind = self._order.kind(position)
        return self._place(kind, *self._pools[kind].item(self._order.earlier(position, kind)))

    def sample(self, place: Place) -> Any:
        """The sample itself."""
        return self.sets[place.set][place.item]

    def _place(self, kind: int, item: int, epoch: int) -> Place:
        if self._weighted:
            return Place(kind, item, epoch)
        number = bisect.bisect_right(self._ends, item)
        return Place(number, item - (self._ends[number - 1] if number else 0), epoch)


def shares(weights: Sequence[float]) -> list[int]:
    """Weights as whole numbers of places in a block: the smallest block that is exact, else one of a thousand.

    Raises UserError where a weight is not positive.
    """
    if any(not 0 < weight < float("inf") for weight in weights):
        raise UserError(f"the weights of data sets must be positive numbers, not {', '.join(map(str, weights))}")
    total = sum(weights)
    for size in range(1, FINEST + 1):
        exact = [weight / total * size for weight in weights]
        counts = [round(share) for share in exact]
        if min(counts) > 0 and all(abs(share - count) < 1e-9 for share, count in zip(exact, counts, strict=True)):
            return counts
    return [max(1, round(weight / total * FINEST)) for weight in weights]
