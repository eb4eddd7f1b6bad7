"""Which items of a split are measured."""

from __future__ import annotations

from skillnet_cli.evaluation.items import spread


def test_evenly_spread_or_drawn_by_a_seed() -> None:
    assert spread(10, 5) == [0, 2, 4, 6, 8] and spread(3, None) == [0, 1, 2] == spread(3, 9)
    drawn = spread(1_000, 50, seed=1)
    assert drawn == spread(1_000, 50, seed=1) == sorted(set(drawn)) and len(drawn) == 50
    assert drawn != spread(1_000, 50, seed=2) and drawn != spread(1_000, 50)
    assert spread(5, None, seed=3) == [0, 1, 2, 3, 4]
