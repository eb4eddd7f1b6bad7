"""The protocol of retrieval (paper §4.1): every text of the first tower searches all items of the second."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from skillnet_cli.api import DamagedItem, FailedJob, Source, UserError
from skillnet_cli.data.pipeline import sources_of
from skillnet_cli.evaluation.evaluate import Evaluation
from skillnet_cli.inference.encoder import encode_sources
from skillnet_cli.pace import advanced
from skillnet_cli.runs import Result

K = TypeVar("K", int, "_Query")

BEST = 3
"""Items that a report shows for a query."""

CHUNK_SCORES = 1 << 24
"""Scores in memory at once, 64 MB: for fewer queries at a time the product takes longer."""

CLOSE_SHARE = 1 / 64
"""The share of a chunk's scores up to which those that float32 cannot compare are computed one by one."""

PAIRS = 4096
"""Of vectors, multiplied at a time."""


def retrieve(evaluation: Evaluation) -> Result:
    """Recall at the task's Ks. An item whose text cannot be read is in the pool all the same.

    Raises:
        FailedJob: no item or no text could be read, or the model's vectors are not finite.
        UserError: the task has other metrics than recall@K, or a tower of several segments.
    """
    wanted = {name: _k(name, evaluation) for name in evaluation.task.metrics}
    if [len(tower) for tower in evaluation.task.towers] != [1, 1]:
        raise UserError(f"task '{evaluation.task.name}': retrieval is measured between two towers of one segment each")
    (query_skill,), (item_skill,) = evaluation.task.towers
    pairs = _encode(evaluation, query_skill, item_skill)
    ranks = pairs.search.ranks(pairs.own)
    if not len(ranks):
        raise FailedJob(f"task '{evaluation.task.name}': none of the texts that belong to the items could be read")
    return evaluation.result(
        {name: (ranks < k).double().mean().item() for name, k in wanted.items()},
        items=len(pairs.pool),
        queries=len(pairs.queries),
        damaged=pairs.damaged,
        protocol={
            "pool": f"{len(pairs.pool)} items of skill {item_skill}",
            "queries": f"{len(pairs.queries)} of skill {query_skill}, every one that belongs to {_whose(evaluation)}",
            "positives": "the query's own item alone",
            "similarity": evaluation.model.config.similarity,
            "ties": "counted as misses",
        },
        cases=_cases(pairs, ranks, evaluation.choose_examples(f"{query.id}#{query.text}" for query in pairs.queries)),
    )


def _whose(evaluation: Evaluation) -> str:
    asked, pool = len(evaluation.indices), len(evaluation.pool)
    return "an item of the pool" if asked == pool else f"one of {asked} items of the pool"


def _k(metric: str, evaluation: Evaluation) -> int:
    name, _, k = metric.partition("@")
    if name != "recall" or not k.isdecimal() or int(k) < 1:
        raise UserError(f"task '{evaluation.task.name}': retrieval is measured by recall@K, not by '{metric}'")
    return int(k)


@dataclass(frozen=True, order=True)
class _Query:
    """Whose a query is: its item's place in the split, which of the item's texts it is, and the item's id."""

    index: int
    text: int
    id: str


@dataclass(frozen=True)
class _Pairs:
    """The encoded queries and pool of a split.

    ``pool`` has the place in the split of every item in the pool, ``own`` for every query its item's place in the pool.
    """

    search: _Search
    queries: list[_Query]
    pool: list[int]
    own: Int[Tensor, " queries"]
    damaged: int


def _encode(evaluation: Evaluation, query_skill: str, item_skill: str) -> _Pairs:
    split = evaluation.split
    encode = partial(
        encode_sources,
        evaluation.model,
        evaluation.readers,
        task=evaluation.task.name,
        precision=evaluation.precision,
        batch_size=evaluation.batch_size,
    )
    damaged: list[str] = []
    # Filled as sources are read, which is one at a time: all texts of a set need not fit into memory.
    read_items: list[int] = []
    read: list[_Query] = []

    def item_sources() -> Iterator[Source]:
        for index in evaluation.share(evaluation.pool):
            try:
                source = sources_of(split[index], item_skill)[0]
            except DamagedItem as error:
                damaged.append(str(error))
                continue
            read_items.append(index)
            yield source

    def query_sources() -> Iterator[Source]:
        for index in evaluation.share(asked):
            sample = split[index]
            try:
                texts = sources_of(sample, query_skill)
            except DamagedItem as error:
                damaged.append(str(error))
                continue
            for number, text in enumerate(texts):
                read.append(_Query(index, number, sample["id"]))
                yield text

    items = encode(item_skill, item_sources())
    damaged += [reason for _, reason in items.damaged]
    pool, item_vectors = _in_order(evaluation, [read_items[place] for place in items.kept], items.vectors)
    if not pool:
        raise evaluation.unreadable(evaluation.gather(damaged))
    asked = sorted(set(evaluation.indices).intersection(pool))
    texts = encode(query_skill, query_sources())
    damaged += [reason for _, reason in texts.damaged]
    queries, query_vectors = _in_order(evaluation, [read[place] for place in texts.kept], texts.vectors)
    places = {index: place for place, index in enumerate(pool)}
    own = torch.tensor([places[query.index] for query in queries], dtype=torch.int64)
    return _Pairs(_Search(query_vectors, item_vectors), queries, pool, own, len(evaluation.gather(damaged)))


def _in_order(evaluation: Evaluation, keys: list[K], vectors: Float[Tensor, "kept hidden"]) -> tuple[list[K], Tensor]:
    """What the ranks have encoded, as one rank would have: the keys of all in their order, and their vectors."""
    shares = evaluation.ranks.gather((keys, vectors))
    found = [key for share, _ in shares for key in share]
    order = sorted(range(len(found)), key=found.__getitem__)
    return [found[place] for place in order], torch.cat([some for _, some in shares])[order]


def _cases(pairs: _Pairs, ranks: Int[Tensor, " queries"], shown: list[int]) -> tuple[dict[str, Any], ...]:
    cases = []
    for place, (scores, items) in zip(shown, pairs.search.best(shown, BEST), strict=True):
        hits = zip(items.tolist(), scores.tolist(), strict=True)
        best = [{"index": pairs.pool[item], "score": round(score, 4)} for item, score in hits]
        query = pairs.queries[place]
        cases.append({"index": query.index, "caption": query.text, "rank": int(ranks[place]) + 1, "best": best})
    return tuple(cases)


@dataclass(frozen=True)
class _Search:
    """Queries and the pool that they search by dot product, scored a few queries at a time.

    Raises:
        FailedJob: a vector is not finite, which would otherwise win every comparison.
    """

    queries: Float[Tensor, "queries hidden"]
    pool: Float[Tensor, "items hidden"]
    chunk_scores: int = field(default=CHUNK_SCORES, kw_only=True)

    def __post_init__(self) -> None:
        if not (self.queries.isfinite().all() and self.pool.isfinite().all()):
            raise FailedJob("the model's vectors are not finite: was its training stable?")

    def ranks(self, own: Int[Tensor, " queries"]) -> Int[Tensor, " queries"]:
        """The rank, 0 is best, of each query's own item ``own[query]``; items that tie with it come before it.

        What is compared are products in float64, rounded to float32. Those of float32 take half the time, and hardly
        any is so close to the own item's that its error decides; only these are computed in float64.
        """
        found = [self._ranks(self.queries[rows], own[rows]) for rows in self._chunks(len(self.queries))]
        return torch.cat(found) if found else own.new_empty(0)

    def best(self, queries: list[int], count: int) -> Iterator[tuple[Float[Tensor, " best"], Int[Tensor, " best"]]]:
        """For each of some queries the ``count`` best scores and their items; fewer where the pool is smaller."""
        for rows in self._chunks(len(queries)):
            scores = self._scores(self.queries[queries[rows]])
            yield from zip(*scores.topk(min(count, len(self.pool))), strict=True)

    def _ranks(self, queries: Float[Tensor, "chunk hidden"], own: Int[Tensor, " chunk"]) -> Int[Tensor, " chunk"]:
        wanted = self._products(queries, own)[:, None]
        # The error of a sum of n products in any order is at most n/2 eps |a||b| (Higham 2002, §3.1); the rest is for
        # what is rounded beside it.
        scale = (queries.shape[1] + 2) * torch.finfo(torch.float32).eps
        error = scale * queries.norm(dim=1, keepdim=True) * self._longest + torch.finfo(torch.float32).tiny
        scores = queries @ self.pool.T
        above, below = scores > wanted + error, scores < wanted - error
        found = _counts(above)
        close = len(self.pool) - found - _counts(below)  # the own item, and what is not a number
        (unsettled,) = (close != 1).nonzero(as_tuple=True)
        if close[unsettled].sum() > CLOSE_SHARE * scores.numel():
            exact = self._scores(queries[unsettled])
            found[unsettled] = (exact >= exact.gather(1, own[unsettled, None])).sum(1) - 1
            return found
        rows, items = (~(above | below)[unsettled]).nonzero(as_tuple=True)
        rows = unsettled[rows]
        # Ties count against the model: one that answers everything alike must not be right by the order of items.
        ahead = (self._products(queries[rows], items) >= wanted[rows, 0]).long()
        found.index_add_(0, rows, ahead).index_add_(0, unsettled, -torch.ones_like(unsettled))
        return found

    def _products(
        self, queries: Float[Tensor, "pairs hidden"], items: Int[Tensor, " pairs"]
    ) -> Float[Tensor, " pairs"]:
        """The scores of pairs of a query and an item. Equal items have equal ones, wherever they stand."""
        pairs = zip(queries.split(PAIRS), items.split(PAIRS), strict=True)
        return torch.cat([(some.double() * self.pool[each].double()).sum(1).float() for some, each in pairs])

    def _scores(self, queries: Float[Tensor, "chunk hidden"]) -> Float[Tensor, "chunk items"]:
        # In float64, rounded to float32: the last bits of a product depend on where in a matrix it is computed, and
        # equal items must tie exactly.
        return (queries.double() @ self._columns).float()

    @cached_property
    def _columns(self) -> Float64[Tensor, "hidden items"]:
        return self.pool.double().T

    @cached_property
    def _longest(self) -> Float[Tensor, ""]:
        return self.pool.norm(dim=1).max()

    def _chunks(self, queries: int) -> Iterator[slice]:
        step = max(1, self.chunk_scores // max(1, len(self.pool)))
        for start in range(0, queries, step):
            advanced()
            yield slice(start, start + step)


def _counts(found: Bool[Tensor, "rows columns"]) -> Int[Tensor, " rows"]:
    """How many of each row are true. NumPy counts them twenty times as fast as torch adds them up."""
    return torch.tensor([np.count_nonzero(row) for row in found.numpy()], dtype=torch.int64)
