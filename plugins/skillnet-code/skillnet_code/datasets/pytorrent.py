"""``pytorrent``: Python functions and what they do, in Chinese, for text-to-code search.

The paper translates the English docstrings of PyTorrent, leaves out duplicates and poor translations, mixes the
published partitions, shuffles, and takes 100,000 pairs to train on, 20,000 for dev and 30,000 for test (appendix).
"""

from __future__ import annotations

from collections.abc import Mapping

from skillnet_cli.prepare.duplicates import reject_equal
from skillnet_cli.prepare.preparer import Items, PoolSplit, Summary, divide
from skillnet_code.datasets.pair import ALL, Pair
from skillnet_code.datasets.pairs import Pairs, shortened

PAPER = {"train": 100_000, "dev": 20_000, "test": 30_000}


class PyTorrent(Pairs):
    """``paper`` mixes all partitions, ``official`` keeps them; pairs without a partition are divided in any case."""

    pools: Mapping[str, tuple[str, ...]] = {ALL: tuple(PAPER)}

    def refuses(self, pair: Pair, content: str) -> str | None:
        """Nothing more."""
        return None

    def filter(self, items: Items) -> None:
        """Leave out near duplicates, and descriptions that stand for two functions: no search could tell them apart."""
        reject_equal(items, self.folder, "the description of", lambda item: str(item.facts[1]))
        super().filter(items)

    def large_enough(self, sizes: Mapping[str, int]) -> bool:
        """Whether there are as many as the paper takes, or no partitions to keep."""
        return sum(sizes.values()) >= sum(PAPER.values()) or set(sizes) <= {ALL}

    def pool(self, split: str, protocol: str | None) -> str:
        """All partitions are mixed where the division is the paper's."""
        return ALL if protocol == "paper" else split

    def split(self, pool: str, size: int, protocol: str | None) -> PoolSplit | None:
        """The paper's sizes, or its proportion."""
        return PoolSplit(divide(size, PAPER))

    def finish(self, items: Items, protocol: str | None) -> Summary:
        """How many descriptions were cut, in the manifest."""
        return Summary(choices=shortened(items))
