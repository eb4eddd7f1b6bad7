"""Near duplicates against a brute-force Jaccard over all pairs."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.prepare import duplicates
from skillnet_cli.prepare.duplicates import RUN, equal_keys, reject_near_duplicates, signature
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
    monkeypatch.setattr(duplicates, "_ITEMS_AT_ONCE", 50)
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


def minima(tokens: list[str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(signature(tokens)), "<u2")


def test_signatures_estimate_the_share_of_common_runs() -> None:
    made = [(minima(each), runs(each)) for each in documents(2)[:60]]
    pairs = itertools.combinations(made, 2)
    errors = [np.mean(a == b) - likeness(runs_a, runs_b) for (a, runs_a), (b, runs_b) in pairs]
    assert abs(float(np.mean(errors))) < 0.005 and float(np.max(np.abs(errors))) < 0.25


def test_short_sequences_and_items_without_a_signature(tmp_path: Path) -> None:
    items = Listed([signature([]), signature(["a"]), None, signature(["a"]), signature(["b"]), None, signature([])])
    reject_near_duplicates(items, tmp_path, 0.9, "nearly", lambda item: item.facts)
    assert items.rejected == {9: "nearly 'item 1'", 18: "nearly 'item 0'"}


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 9), st.integers(1, 7), st.data())
def test_equal_keys_are_found_with_any_memory(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], at_once: int, block: int, data: st.DataObject
) -> None:
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))), bool)
    keys = np.array([[value, value * 7 % 5 if value else 0] for value in values], np.uint64).reshape(-1, 2)
    blocks = [keys[start : start + block] for start in range(0, len(keys), block)]
    found: dict[int, int] = {}
    for places, firsts in equal_keys(blocks, alive, tmp_path_factory.mktemp("keys"), at_once):
        found |= dict(zip(places.tolist(), firsts.tolist(), strict=True))
    wanted, first = {}, {}
    for place, value in enumerate(values):
        if alive[place] and value and first.setdefault(value, place) != place:
            wanted[place] = first[value]
    assert found == wanted
