from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.engine.step import learning_rate


def rates(schedule: str, steps: int, warmup: int) -> list[float]:
    return [learning_rate(u, peak=2.0, steps=steps, warmup=warmup, schedule=schedule) for u in range(steps)]


def test_linear_by_hand() -> None:
    assert rates("linear", 6, 2) == pytest.approx([1.0, 2.0, 2.0, 1.5, 1.0, 0.5])


def test_constant_by_hand() -> None:
    assert rates("constant", 5, 4) == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


def test_a_warmup_that_never_ends() -> None:
    assert rates("linear", 3, 4) == pytest.approx([0.5, 1.0, 1.5])


@given(st.integers(1, 60).flatmap(lambda steps: st.tuples(st.just(steps), st.integers(0, steps))))
def test_every_update_learns_and_none_above_the_peak(sizes: tuple[int, int]) -> None:
    steps, warmup = sizes
    found = rates("linear", steps, warmup)
    assert max(found) == 2.0 and min(found) > 0
    peak = found.index(2.0)
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
