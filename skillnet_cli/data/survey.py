"""What a split looks like in numbers: the lengths of its texts and media, its numbers, its most frequent labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skillnet_cli.data.prepared import Split

MOST_ITEMS = 5_000
"""Items that are looked at, evenly spread, where a split has more."""
BINS = 20
MOST = 1e300
"""Larger numbers have no spread: their differences and sums are infinite."""
MOST_VALUES = 50
"""Different values of a field that are labels; a field with more holds texts."""


@dataclass(frozen=True)
class Spread:
    """How a quantity is spread: smallest, middle, largest, mean, and the counts of at most ``BINS`` equal steps.

    Step ``n`` begins at ``smallest + n * width``. Whole numbers have steps of a whole width, so that as many different
    values fall into each: others would leave gaps between the bars of a histogram.
    """

    count: int
    smallest: float
    median: float
    mean: float
    largest: float
    width: float
    bins: tuple[int, ...]

    @classmethod
    def of(cls, values: Sequence[int | float]) -> Spread:
        """The spread of at least one value."""
        array = np.asarray(values, np.float64)
        smallest, largest = float(array.min()), float(array.max())
        if all(isinstance(value, int) for value in values):
            width = float(max(1, math.ceil((largest - smallest + 1) / BINS)))
            steps = int((largest - smallest) // width) + 1
            bins, _ = np.histogram(array, steps, (smallest - 0.5, smallest - 0.5 + steps * width))
        else:
            bins, edges = np.histogram(array, BINS)
            width = float(edges[1] - edges[0]) if largest > smallest else 0.0
        median, mean = float(np.median(array)), float(array.mean())
        return cls(len(array), smallest, median, mean, largest, width, tuple(bins.tolist()))


@dataclass(frozen=True)
class Survey:
    """A split in numbers.

    Attributes:
        items: all of them; ``looked_at``: those that the rest is about.
        spreads: what is measured (``text: characters``, ``image: bytes``, …) -> how it is spread.
        labels: field -> its values and their items, the most frequent first.
    """

    items: int
    looked_at: int
    spreads: Mapping[str, Spread]
    labels: Mapping[str, Mapping[str, int]]


@dataclass
class _Gathering:
    values: dict[str, list[int | float]] = field(default_factory=dict)
    labels: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, name: str, value: Any) -> None:
        """Take down one field of one item."""
        if isinstance(value, bytes):
            self._measure(f"{name}: bytes", len(value))
        elif isinstance(value, str):
            self._measure(f"{name}: characters", len(value))
            self._label(name, value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if abs(value) <= MOST:  # neither NaN nor infinite, nor a whole number of hundreds of digits
                self._measure(name, value)
        elif isinstance(value, list):
            self._measure(f"{name}: how many", len(value))
            for text in value:
                if isinstance(text, str):
                    self._measure(f"{name}: characters", len(text))

    def _measure(self, what: str, value: int | float) -> None:
        self.values.setdefault(what, []).append(value)

    def _label(self, name: str, value: str) -> None:
        counts = self.labels.setdefault(name, Counter())
        if len(counts) <= MOST_VALUES:
            counts[value] += 1


def survey(split: Split, most: int = MOST_ITEMS) -> Survey:
    """Look at up to ``most`` items of a split. Raises FailedJob where it is damaged."""
    gathered = _Gathering()
    chosen = _evenly(len(split), most)
    for place in chosen:
        for name, value in split[place].items():
            if name != "id":
                gathered.add(name, value)
    labels = {
        name: dict(counts.most_common())
        for name, counts in sorted(gathered.labels.items())
        if len(counts) <= MOST_VALUES and max(counts.values()) > 1
    }
    values = {what: each for what, each in gathered.values.items() if what.removesuffix(": characters") not in labels}
    return Survey(len(split), len(chosen), {what: Spread.of(each) for what, each in sorted(values.items())}, labels)


def _evenly(items: int, wanted: int) -> list[int]:
    """The places of ``wanted`` of ``items``, evenly spread; all where there are no more."""
    return list(range(items)) if items <= wanted else [place * items // wanted for place in range(wanted)]


def picked(split: Split, wanted: int, seed: int) -> list[int]:
    """The places of ``wanted`` items drawn by the seed, in order."""
    drawn: Iterable[int] = np.random.default_rng(seed).choice(len(split), min(wanted, len(split)), replace=False)
    return sorted(map(int, drawn))
