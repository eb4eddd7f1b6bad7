"""Retrieval figures without the whole similarity matrix in memory.

A query's rank is the number of other items that score at least as high as its own: ties count against us. Products
are made in float64 and compared in float32, so that equal items tie whatever their place in a chunk, and the ranks do
not depend on the chunk's size.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from skillnet_cli.api import FailedJob

CHUNK_SCORES = 1 << 24
"""Scores in memory at once."""


def ranks(
    queries: Float[Tensor, "queries hidden"],
    pool: Float[Tensor, "items hidden"],
    truth: Int[Tensor, " queries"],
    chunk_scores: int = CHUNK_SCORES,
) -> Int[Tensor, " queries"]:
    """The rank, 0 is best, of each query's own item ``truth[query]`` among the pool, by dot product.

    Raises:
        FailedJob: a vector is not finite, which would otherwise win every comparison.
    """
    found = []
    for rows, scores in _scores(queries, pool, chunk_scores):
        own = scores.gather(1, truth[rows, None])
        found.append((scores >= own).sum(1) - 1)
    return torch.cat(found) if found else truth.new_empty(0)


def top(
    queries: Float[Tensor, "queries hidden"],
    pool: Float[Tensor, "items hidden"],
    count: int,
    chunk_scores: int = CHUNK_SCORES,
) -> tuple[Float[Tensor, "queries best"], Int[Tensor, "queries best"]]:
    """The ``count`` best scores of each query, and the items that have them; fewer where the pool is smaller."""
    best = [scores.topk(min(count, len(pool))) for _, scores in _scores(queries, pool, chunk_scores)]
    if not best:
        return queries.new_empty(0, 0), torch.empty(0, 0, dtype=torch.int64)
    return torch.cat([found.values for found in best]), torch.cat([found.indices for found in best])


def recall(ranks: Int[Tensor, " queries"], k: int) -> float:
    """The share of queries whose own item is among the best ``k``. Raises FailedJob where there are no queries."""
    if len(ranks) == 0:
        raise FailedJob("there is no query to measure recall with")
    return (ranks < k).double().mean().item()


def _scores(
    queries: Float[Tensor, "queries hidden"], pool: Float[Tensor, "items hidden"], chunk_scores: int
) -> Iterator[tuple[slice, Float[Tensor, "chunk items"]]]:
    if not (queries.isfinite().all() and pool.isfinite().all()):
        raise FailedJob("the model's vectors are not finite: was its training stable?")
    step = max(1, chunk_scores // max(1, len(pool)))
    columns = pool.double().T
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        yield rows, (queries[rows].double() @ columns).float()
