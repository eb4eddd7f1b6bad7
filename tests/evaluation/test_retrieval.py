"""Ranks and best items against brute force, ties and vectors that are not finite included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from skillnet_cli.api import FailedJob
from skillnet_cli.evaluation.retrieval import _Search


def brute_force(queries: list[list[float]], pool: list[list[float]], truth: list[int]) -> list[int]:
    """Rank by counting, in Python's integers: exact."""
    found = []
    for query, own in zip(queries, truth, strict=True):
        scores = [sum(a * b for a, b in zip(query, item, strict=True)) for item in pool]
        found.append(sum(score >= scores[own] for place, score in enumerate(scores) if place != own))
    return found


small = st.integers(-2, 2).map(float)


@st.composite
def searches(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]], list[int]]:
    """Few different numbers, so that ties are many."""
    width = draw(st.integers(1, 3))
    vector = st.lists(small, min_size=width, max_size=width)
    pool = draw(st.lists(vector, min_size=1, max_size=9))
    queries = draw(st.lists(vector, min_size=1, max_size=9))
    truth = draw(st.lists(st.integers(0, len(pool) - 1), min_size=len(queries), max_size=len(queries)))
    return queries, pool, truth


@given(searches(), st.integers(1, 40))
def test_ranks_are_those_of_counting_whatever_the_chunk(
    search: tuple[list[list[float]], list[list[float]], list[int]], chunk: int
) -> None:
    queries, pool, truth = search
    found = _Search(torch.tensor(queries), torch.tensor(pool), chunk_scores=chunk).ranks(torch.tensor(truth))
    assert found.tolist() == brute_force(queries, pool, truth)


def test_equal_items_count_against_us() -> None:
    pool = torch.ones(5, 2)
    assert _Search(torch.ones(1, 2), pool).ranks(torch.tensor([3])).tolist() == [4]


@pytest.mark.parametrize("chunk", [1, 7_000, 1 << 24])
def test_equal_items_tie_exactly_in_every_chunk(chunk: int) -> None:
    """A product's last bits depend on where in a matrix it is made; ranks must not."""
    generator = torch.Generator().manual_seed(0)
    pool = F.normalize(torch.randn(700, 96, generator=generator), dim=1).repeat(2, 1)
    queries = pool[:700] + 0.01 * torch.randn(700, 96, generator=generator)
    found = _Search(queries, pool, chunk_scores=chunk).ranks(torch.arange(700))
    assert found.tolist() == [1] * 700


@given(
    st.integers(0, 1_000),
    st.sampled_from([0.0, 1e-8, 1e-6, 1e-4, 1e-2, 1.0]),
    st.sampled_from([1e-25, 1.0, 1e12, 1e25]),
)
def test_ranks_of_vectors_that_are_close_are_those_of_float64(seed: int, apart: float, size: float) -> None:
    """Closer than float32 tells apart, or too large for it: what is compared is float64, rounded."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(64, generator=generator)
    pool = F.normalize(centre + apart * torch.randn(150, 64, generator=generator), dim=1) * size
    queries = F.normalize(centre + apart * torch.randn(40, 64, generator=generator), dim=1) * size
    own = torch.randint(150, (40,), generator=generator)
    exact = (queries.double()[:, None] * pool.double()).sum(2).float()
    wanted = (exact >= exact.gather(1, own[:, None])).sum(1) - 1
    found = _Search(queries, pool, chunk_scores=1_500).ranks(own)
    # Where all chunks are close they are multiplied as matrices, whose last bits may round otherwise.
    assert (found - wanted).abs().max() <= (0 if apart == 1.0 else 1)


def test_vectors_that_are_not_finite_do_not_win() -> None:
    pool = torch.eye(3)
    for queries, items in [(pool * torch.nan, pool), (pool, pool / 0)]:
        with pytest.raises(FailedJob, match="not finite"):
            _Search(queries, items)


def test_best_items_are_those_of_sorting() -> None:
    generator = torch.Generator().manual_seed(1)
    queries, pool = torch.randn(11, 8, generator=generator), torch.randn(17, 8, generator=generator)
    scores, items = map(
        torch.stack, zip(*_Search(queries, pool, chunk_scores=40).best(list(range(11)), 3), strict=True)
    )
    wanted = (queries @ pool.T).sort(dim=1, descending=True)
    assert torch.equal(items, wanted.indices[:, :3])
    torch.testing.assert_close(scores, wanted.values[:, :3])


def test_a_small_pool_has_fewer_best_items() -> None:
    for scores, items in _Search(torch.ones(2, 1), torch.ones(2, 1)).best([0, 1], 3):
        assert scores.shape == items.shape == (2,)
