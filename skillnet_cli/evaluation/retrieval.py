"""The protocol of retrieval (paper §4.1): every text of the first tower searches all items of the second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from skillnet_cli.api import FailedJob, Source, UserError
from skillnet_cli.evaluation.items import Findings, Work, by_chance, texts
from skillnet_cli.inference.encoder import encode_sources

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


BEST = 3
"""Items shown for each query in galleries."""


@dataclass(frozen=True)
class _Caller:
    """Whose a query is: the item's index in the split, which of its texts, and a name for both."""

    index: int
    which: int
    id: str


@dataclass(frozen=True)
class _Asked:
    """The queries and the pool of a split: whose each vector is.

    ``own`` is each query's item as a place in the pool; ``pool_indices`` are the pool items' indices in the split.
    """

    queries: Float[Tensor, "queries hidden"]
    pool: Float[Tensor, "items hidden"]
    own: Int[Tensor, " queries"]
    callers: list[_Caller]
    pool_indices: list[int]
    damaged: int


def retrieve(work: Work) -> Findings:
    """Recall at the task's Ks over the whole split. An item whose other side cannot be read still is in the pool."""
    wanted = {name: _k(name, work) for name in work.task.metrics}
    asked = _encode(work)
    found = ranks(asked.queries, asked.pool, asked.own)
    return Findings(
        metrics={name: recall(found, k) for name, k in wanted.items()},
        items=len(asked.pool_indices),
        queries=len(asked.callers),
        damaged=asked.damaged,
        protocol=_protocol(work, asked),
        cases=_cases(asked, found),
    )


def _k(metric: str, work: Work) -> int:
    name, _, k = metric.partition("@")
    if name != "recall" or not k.isdecimal() or int(k) < 1:
        raise UserError(f"task '{work.task.name}': retrieval is measured by recall@K, not by '{metric}'")
    return int(k)


def _encode(work: Work) -> _Asked:
    query_skill, item_skill = _skills(work)
    encode = partial(encode_sources, work.model, work.readers, task=work.task.name, precision=work.precision)
    items = encode(item_skill, _media(work, item_skill))
    pool_indices = [work.indices[place] for place in items.kept]
    if not pool_indices:
        raise FailedJob(
            f"task '{work.task.name}': none of {len(work.indices)} items of {work.split.name} could be read"
        )
    callers: list[_Caller] = []
    queries = _queries(work, query_skill, pool_indices, callers)
    asked = encode(query_skill, queries)
    kept = [callers[place] for place in asked.kept]
    places = {index: place for place, index in enumerate(pool_indices)}
    own = torch.tensor([places[caller.index] for caller in kept], dtype=torch.int64)
    damaged = len(items.damaged) + len(asked.damaged)
    return _Asked(asked.vectors, items.vectors, own, kept, pool_indices, damaged)


def _skills(work: Work) -> tuple[str, str]:
    if [len(tower) for tower in work.task.towers] != [1, 1]:
        raise UserError(f"task '{work.task.name}': retrieval is measured between two towers of one segment each")
    (query,), (item,) = work.task.towers
    return query, item


def _media(work: Work, skill: str) -> Iterator[Source]:
    return (texts(work.split[index][skill])[0] for index in work.indices)


def _queries(work: Work, skill: str, indices: Sequence[int], callers: list[_Caller]) -> Iterator[Source]:
    """Every text of the items; ``callers`` is told whose each is as it is read."""
    for index in indices:
        sample = work.split[index]
        for which, text in enumerate(texts(sample[skill])):
            callers.append(_Caller(index, which, f"{sample['id']}#{which}"))
            yield text


def _protocol(work: Work, asked: _Asked) -> dict[str, Any]:
    query_skill, item_skill = _skills(work)
    return {
        "pool": f"{len(asked.pool_indices)} items of skill {item_skill}",
        "queries": f"{len(asked.callers)} of skill {query_skill}, every one that belongs to an item of the pool",
        "positives": "the query's own item alone",
        "similarity": work.model.config.similarity,
        "ties": "counted as misses",
    }


def _cases(asked: _Asked, found: Int[Tensor, " queries"]) -> tuple[dict[str, Any], ...]:
    shown = by_chance({place: caller.id for place, caller in enumerate(asked.callers)})
    scores, best = top(asked.queries[shown], asked.pool, BEST)
    return tuple(
        _case(asked.callers[query], int(found[query]), best[row].tolist(), scores[row].tolist(), asked.pool_indices)
        for row, query in enumerate(shown)
    )


def _case(
    caller: _Caller, rank: int, places: Sequence[int], scores: Sequence[float], pool: Sequence[int]
) -> dict[str, Any]:
    best = [{"index": pool[place], "score": round(score, 4)} for place, score in zip(places, scores, strict=True)]
    return {"index": caller.index, "caption": caller.which, "rank": rank + 1, "best": best}
