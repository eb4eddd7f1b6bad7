"""The order of tasks: exact in every block, and countable at any step."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.data.sampler import TaskOrder

ratios = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 6), min_size=1)
seeds = st.integers(0, 2**32)


@given(ratios, seeds, st.integers(1, 12))
def test_any_run_of_whole_blocks_has_the_exact_mix(ratios: dict[str, int], seed: int, blocks: int) -> None:
    order = TaskOrder(ratios, seed)
    counts = Counter(order.task(step) for step in range(blocks * sum(ratios.values())))
    assert counts == {name: blocks * ratio for name, ratio in ratios.items()}


@given(ratios, seeds, st.integers(0, 10**9))
def test_so_has_any_single_block(ratios: dict[str, int], seed: int, block: int) -> None:
    order, size = TaskOrder(ratios, seed), sum(ratios.values())
    assert Counter(order.task(step) for step in range(block * size, (block + 1) * size)) == ratios


@given(ratios, seeds)
def test_positions_are_what_counting_says(ratios: dict[str, int], seed: int) -> None:
    order, counted = TaskOrder(ratios, seed), Counter[str]()
    for step in range(60):
        assert order.position(step) == counted[order.task(step)]
        counted[order.task(step)] += 1


def test_blocks_differ_and_so_do_seeds() -> None:
    paper = {"text": 2, "sound": 4, "image": 2, "video": 1, "code": 4}
    one, other = (tuple(TaskOrder(paper, seed).task(step) for step in range(260)) for seed in (1, 2))
    assert len({one[start : start + 13] for start in range(0, 260, 13)}) == 20
    assert one != other


@pytest.mark.parametrize("ratios", [{}, {"a": 0}, {"a": 1, "b": -1}])
def test_ratios_must_be_positive(ratios: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        TaskOrder(ratios, 0)
