"""Near duplicates against a brute-force Jaccard over all pairs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from skillnet_cli.prepare import near_duplicates
from skillnet_cli.prepare.near_duplicates import RUN, minima, reject_near_duplicates, signature
from skillnet_cli.prepare.preparer import Item


class Listed:
    """Items in a list."""

    def __init__(self, signatures: list[str | None]) -> None:
        self._items = [Item(3 * place, "all", f"item {place}", each) for place, each in enumerate(signatures)]
        self.rejected: dict[int, str] = {}

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def id_of(self, place: int) -> str:
        return self._items[place // 3].id

    def reject(self, place: int, why: str, reason: str) -> None:
        assert why == "duplicate" and place not in self.rejected
        self.rejected[place] = reason


def runs(tokens: list[str]) -> set[tuple[str, ...]]:
    return {tuple(tokens[place : place + RUN]) for place in range(len(tokens) - RUN + 1)}


def likeness(first: set[tuple[str, ...]], second: set[tuple[str, ...]]) -> float:
    return len(first & second) / len(first | second)


def documents(seed: int) -> list[list[str]]:
    """Random sequences, and changed copies of earlier ones in between: from one changed token to half of them."""
    draw = np.random.default_rng(seed)
    made: list[list[str]] = []
    for number in range(300):
        if number % 3 or not made:
            made.append([f"w{draw.integers(80)}" for _ in range(draw.integers(60, 200))])
        else:
            copy = list(made[draw.integers(len(made))])
            for place in draw.integers(len(copy), size=draw.choice([0, 1, 2, 10, 60])):
                copy[place] = "changed"
            made.append(copy)
    return made


def test_what_is_left_out_is_what_brute_force_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "AT_ONCE", 50)
    made = [runs(each) for each in documents(1)]
    items = Listed([signature(each) for each in documents(1)])
    reject_near_duplicates(items, tmp_path, 0.9, "nearly", lambda item: item.facts)
    best = [max((likeness(each, earlier) for earlier in made[:place]), default=0.0) for place, each in enumerate(made)]
    found = {place // 3 for place in items.rejected}
    assert {place for place, share in enumerate(best) if share >= 0.98} <= found
    assert all(best[place] > 0.75 for place in found)
    assert not list(tmp_path.iterdir()), "nothing is left behind"
    for place, reason in items.rejected.items():
        first = int(reason.removeprefix("nearly 'item ").rstrip("'"))
        assert first < place // 3 and likeness(made[place // 3], made[first]) > 0.75


def test_signatures_estimate_the_share_of_common_runs() -> None:
    made = [(minima(each), runs(each)) for each in documents(2)[:60]]
    pairs = itertools.combinations(made, 2)
    errors = [np.mean(a == b) - likeness(runs_a, runs_b) for (a, runs_a), (b, runs_b) in pairs]
    assert abs(float(np.mean(errors))) < 0.005 and float(np.max(np.abs(errors))) < 0.25


def test_short_sequences_and_items_without_a_signature(tmp_path: Path) -> None:
    items = Listed([signature([]), signature(["a"]), None, signature(["a"]), signature(["b"]), None, signature([])])
    reject_near_duplicates(items, tmp_path, 0.9, "nearly", lambda item: item.facts)
    assert items.rejected == {9: "nearly 'item 1'", 18: "nearly 'item 0'"}
