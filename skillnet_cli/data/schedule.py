"""Which task each step has: a seeded permutation of every block of the ratios (paper §A.1: 2/4/2/1/4)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int


class BlockOrder:
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
        self._order = BlockOrder(tuple(ratios.values()), seed)

    def task(self, step: int) -> str:
        """The task of a step, counted from 0."""
        return self._names[self._order.kind(step)]

    def position(self, step: int) -> int:
        """How many earlier steps had this step's task."""
        return self._order.earlier(step, self._order.kind(step))
