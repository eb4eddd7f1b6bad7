"""A split in numbers, checked by hand."""

from __future__ import annotations

import pytest

from skillnet_cli.data.survey import BINS, Spread, picked, survey
from tests.sets import MakeSet


def test_a_survey_measures_texts_media_and_labels(make_set: MakeSet) -> None:
    found = survey(make_set(items=25, blob=700).split("train"))
    assert (found.items, found.looked_at) == (25, 25)
    assert found.labels == {"label": {"even": 13, "odd": 12}}
    assert set(found.spreads) == {"blob: bytes", "words: characters", "words: how many"}
    many, blob, words = (found.spreads[each] for each in ("words: how many", "blob: bytes", "words: characters"))
    assert (many.smallest, many.largest, many.count) == (2, 2, 25) and blob.median == 5 + 2 * 350
    lengths = [len(f"3 {3 + number % 9}") for number in range(25)] + [1] * 25
    assert words.mean == pytest.approx(sum(lengths) / 50) and sum(words.bins) == 50


def test_large_splits_are_looked_at_evenly(make_set: MakeSet) -> None:
    found = survey(make_set(items=40).split("train"), most=10)
    assert (found.items, found.looked_at) == (40, 10)
    assert sum(found.labels["label"].values()) == 10


def test_items_are_drawn_by_the_seed(make_set: MakeSet) -> None:
    split = make_set(items=40).split("train")
    assert picked(split, 5, 1) == picked(split, 5, 1) != picked(split, 5, 2)
    assert picked(split, 100, 1) == list(range(40)) and picked(split, 0, 1) == []


def test_a_spread_of_one_value_has_its_bins() -> None:
    spread = Spread.of([3.0])
    assert (spread.smallest, spread.median, spread.mean, spread.largest) == (3, 3, 3, 3)
    assert len(spread.bins) == BINS and sum(spread.bins) == 1
