"""Which task and which samples each step has: functions of the seed and the step alone, so nothing needs saving."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from skillnet_cli.api import UserError

ROUNDS = 8
"""Of the Feistel network; four are enough for a permutation that cannot be told from a random one (Luby and Rackoff
1988), eight leave room for a weak round function."""
_WORD = (1 << 64) - 1


def _shuffled(place: int, size: int, key: tuple[int, ...]) -> int:
    """The item at a place of the permutation of ``range(size)`` that ``key`` seeds."""
    bits = max(2, (size - 1).bit_length())
    item = place
    while True:
        item = _feistel(item, bits, _round_keys(key))
        if item < size:
            return item


def _feistel(value: int, bits: int, keys: tuple[int, ...]) -> int:
    """Permute the numbers of so many bits; the two parts swap places, and widths, in every round."""
    low = bits - bits // 2
    high = bits // 2
    left, right = value >> low, value & ((1 << low) - 1)
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & ((1 << high) - 1))
        low, high = high, low
    return (left << low) | right


def _mix(value: int) -> int:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _WORD
    return value ^ (value >> 31)


@functools.lru_cache(maxsize=256)
def _round_keys(key: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int, np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)))


class _BlockOrder:
    """An endless order of kinds in which every block of ``sum(counts)`` places has each kind exactly its count.

    Where a kind's place stands among its own is known in closed form, for any place at once.
    """

    def __init__(self, counts: Sequence[int], seed: int) -> None:
        if not counts or min(counts) < 1:
            raise ValueError(f"every count must be at least 1: {list(counts)}")
        self.counts = tuple(counts)
        self.size = sum(counts)
        self._seed = seed

    def kind(self, place: int) -> int:
        """The kind at a place."""
        if len(self.counts) == 1:
            return 0
        block, offset = divmod(place, self.size)
        return int(_block(self.counts, self._seed, block)[offset])

    def earlier(self, place: int, kind: int) -> int:
        """How many of a kind come before a place."""
        if len(self.counts) == 1:
            return place
        block, offset = divmod(place, self.size)
        here = np.count_nonzero(_block(self.counts, self._seed, block)[:offset] == kind)
        return block * self.counts[kind] + int(here)


@functools.lru_cache(maxsize=64)
def _block(counts: tuple[int, ...], seed: int, block: int) -> Int[np.ndarray, " places"]:
    return np.random.default_rng((seed, block)).permutation(np.repeat(np.arange(len(counts)), counts))


class TaskOrder:
    """The task of each step, and how often it came before; the same on every rank and after every resumption."""

    def __init__(self, ratios: Mapping[str, int], seed: int) -> None:
        self.ratios = dict(ratios)
        self._names = tuple(ratios)
        self._order = _BlockOrder(tuple(ratios.values()), seed)

    def task(self, step: int) -> str:
        """The task of a step, counted from 0."""
        return self._names[self._order.kind(step)]

    def position(self, step: int) -> int:
        """How many earlier steps had this step's task."""
        return self._order.earlier(step, self._order.kind(step))


FINEST = 1000
"""Weights that are no whole numbers of a smaller block are rounded to thousandths."""


class Place(NamedTuple):
    """A sample of a stream: which set, which of its items, and how often the stream has been through."""

    set: int
    item: int
    epoch: int


@dataclass(frozen=True)
class _Pool:
    """Items drawn in epochs, each a permutation of its own."""

    size: int
    key: tuple[int, ...]

    def item(self, position: int) -> tuple[int, int]:
        """(item, epoch) at a position of the endless order."""
        epoch, offset = divmod(position, self.size)
        return _shuffled(offset, self.size, (*self.key, epoch)), epoch

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
    long as it asks no set for more than it holds; a larger batch runs on into the next epoch and repeats items, which
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
        self._order = _BlockOrder(_shares([1.0] if weights is None else weights), seed)

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


def _shares(weights: Sequence[float]) -> list[int]:
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
