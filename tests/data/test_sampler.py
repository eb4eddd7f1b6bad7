"""Streams: closed form, exact shares, distinct items, and a shuffle that is one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.api import UserError
from skillnet_cli.data.sampler import Stream, _shares

sizes = st.lists(st.integers(1, 12), min_size=1, max_size=4)
seeds = st.integers(0, 2**32)


def shuffled(size: int, seed: int) -> list[int]:
    """The order in which the first epoch has the items of one set."""
    return [place.item for place in Stream([range(size)], None, size, seed).items(0)]


@given(st.integers(1, 300), seeds)
def test_a_shuffle_has_every_item_once(size: int, seed: int) -> None:
    assert sorted(shuffled(size, seed)) == list(range(size))


def test_a_shuffle_moves_items_everywhere() -> None:
    counts = np.zeros((16, 16))
    for seed in range(1600):
        counts[range(16), shuffled(16, seed)] += 1
    # 16 × 16 cells of about 100 each; the 99.99 % point of chi-square with 225 degrees of freedom is 313.
    assert ((counts - 100) ** 2 / 100).sum() < 313


def test_neighbours_are_torn_apart() -> None:
    order = np.array(shuffled(10_000, 7))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.03
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.001


@given(sizes, seeds, st.integers(1, 9))
def test_without_weights_every_epoch_has_every_item_once(sizes: list[int], seed: int, batch: int) -> None:
    stream = Stream([range(size) for size in sizes], None, batch, seed)
    total = sum(sizes)
    wanted = {(number, item) for number, size in enumerate(sizes) for item in range(size)}
    places = [place for k in range(2 * total) for place in stream.items(k)]
    if total % batch == 0 or batch > total:  # no update meets the end of an epoch with items to spare
        for start in range(0, len(places) - total + 1, total):
            assert {place[:2] for place in places[start : start + total]} == wanted
    assert {place[:2] for place in places} == wanted


@given(sizes, seeds, st.integers(1, 20), st.booleans())
def test_an_update_has_distinct_items_where_the_sets_have_enough(
    sizes: list[int], seed: int, batch: int, weighted: bool
) -> None:
    stream = Stream([range(size) for size in sizes], [1.0] * len(sizes) if weighted else None, batch, seed)
    for k in range(12):
        places = stream.items(k)
        assert len(places) == batch
        drawn = Counter(place.set for place in places)
        enough = batch <= (min(sizes) if weighted else sum(sizes))
        if enough:
            assert len({place[:2] for place in places}) == batch
        assert all(0 <= place.item < sizes[place.set] for place in places) and sum(drawn.values()) == batch


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), seeds)
def test_weights_are_exact_in_every_block(weights: list[int], seed: int) -> None:
    stream = Stream([range(7)] * len(weights), [float(each) for each in weights], sum(weights), seed)
    for k in range(10):
        drawn = Counter(place.set for place in stream.items(k))
        assert drawn == dict(enumerate(weights))


def test_a_small_set_comes_round_more_often() -> None:
    stream = Stream([range(10), range(1000)], [1.0, 1.0], 20, 0)
    seen = Counter(place for k in range(10) for place in stream.items(k))
    assert {place.epoch for place in seen if place.set == 0} == set(range(10))
    assert {place.epoch for place in seen if place.set == 1} == {0}


@given(st.integers(0, 10**12))
def test_any_update_is_found_without_those_before_it(k: int) -> None:
    one, other = (Stream([range(50), range(9)], [2.0, 1.0], 8, 5) for _ in range(2))
    other.items(3)
    assert one.items(k) == other.items(k)


@pytest.mark.parametrize(
    ("weights", "counts"),
    [([1.0], [1]), ([2.0, 1.0], [2, 1]), ([0.25, 0.25, 0.5], [1, 1, 2]), ([1e-9, 1.0], [1, 1000])],
)
def test_weights_become_the_smallest_exact_block(weights: list[float], counts: list[int]) -> None:
    stream = Stream([range(7)] * len(weights), weights, sum(counts), 0)
    for k in range(3):
        drawn = Counter(place.set for place in stream.items(k))
        assert [drawn[number] for number in range(len(weights))] == counts


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_odd_weights_are_kept_to_a_thousandth(weights: list[float]) -> None:
    counts = _shares(weights)  # drawing enough items to see a thousandth would take minutes
    for weight, count in zip(weights, counts, strict=True):
        assert abs(count / sum(counts) - weight / sum(weights)) < 0.005


@pytest.mark.parametrize("weights", [[0.0, 1.0], [-1.0, 1.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_weights_must_be_positive_numbers(weights: list[float]) -> None:
    with pytest.raises(UserError, match="positive"):
        Stream([range(3), range(3)], weights, 2, 0)


def test_all_sets_have_a_weight_or_none() -> None:
    with pytest.raises(UserError, match="all data sets of a task a weight, or none"):
        Stream([range(3), range(3)], [1.0], 2, 0)


def test_empty_sets_are_refused_where_they_would_be_asked() -> None:
    for sets, weights in (([], None), ([range(0)], None), ([range(0), range(3)], [1.0, 1.0])):
        with pytest.raises(UserError, match="no items"):
            Stream(sets, weights, 2, 0)
    assert Stream([range(0), range(3)], None, 3, 0).items(0)


def test_substitutes_of_an_update_differ_from_one_another() -> None:
    stream = Stream([range(1000)], None, 10, 3)
    first = [stream.substitute(4, slot, 0) for slot in range(10)]
    second = [stream.substitute(4, slot, 1) for slot in range(10)]
    assert len({*first, *second, *stream.items(4)}) == 30
