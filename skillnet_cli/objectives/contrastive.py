"""Contrastive learning of two towers (paper §4.1: image, video, code), with the temperature of CLIP."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from skillnet_cli.objectives.base import ComparingObjective, Encoded, Heads, Loss, gather, rank

SIMILARITIES = ("cosine", "dot")
START, LARGEST = 1 / 0.07, 100.0
"""CLIP's first temperature, as a factor on similarities, and its limit (Radford et al. 2021)."""
SCORES = 1 << 20
"""Similarities in memory at once: the loss of a larger batch is computed some rows at a time."""


class Temperature(nn.Module):
    """A learnt factor on similarities, never above 100: CLIP's (Radford et al. 2021), which starts at 1/0.07.

    The factor is cut off where it is used, and :meth:`limit` brings the parameter itself back after an update, as CLIP
    does. Beyond the limit it would have no gradient and never come back; at the limit it has one.
    """

    def __init__(self, start: float = START) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor([math.log(start)]))

    def forward(self, vectors: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        """Vectors, or similarities, times the factor."""
        return vectors * self.logit_scale.clamp(max=math.log(LARGEST)).exp().to(vectors.dtype)

    @torch.no_grad()
    def limit(self) -> None:
        """Bring a parameter that an update has carried beyond the limit back to it."""
        if self.logit_scale.requires_grad:
            self.logit_scale.clamp_(max=math.log(LARGEST))


class Contrastive(ComparingObjective):
    """Symmetric cross-entropy of the true pair among all pairs of the global batch; counted by pair.

    With s_ij the scaled similarity of the first item of pair i and the second of pair j, a pair's loss is the mean of

        -log(exp s_ii / (exp s_ii + Σ_j exp s_ij))  and  -log(exp s_ii / (exp s_ii + Σ_j exp s_ji)),

    where j runs over the pairs of which neither item is the same as the pair's own (``content_ids``): where a caption
    or a picture comes twice in a batch, each of its partners is a right answer to it, and no negative. Under
    torch.distributed the pairs are those of all ranks, with gradients to each, so N ranks equal one.
    """

    towers = 2

    def heads(self, hidden: int) -> dict[str, Callable[[], nn.Module]]:
        """The temperature; dot products, which grow with the width, start divided by its root, as in attention."""
        start = START if self.similarity == "cosine" else hidden**-0.5
        return {self.task.name: lambda: Temperature(start)}

    def dummy_targets(self, items: int, lengths: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        return {}

    def predict(
        self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads
    ) -> tuple[Float[Tensor, "items hidden"], ...]:
        """The two towers' vectors: their final [CLS], L2-normalised where the similarity is the cosine."""
        return tuple(comparable(tower.cls, self.similarity) for tower in towers)

    def compare(self, vectors: Sequence[Float[Tensor, "items _"]], targets: Mapping[str, Tensor], heads: Heads) -> Loss:
        one, other = vectors
        scale = heads[self.task.name]
        with torch.autocast(one.device.type, enabled=False):
            content_ids = targets.get("content_ids")
            everywhere = None if content_ids is None else gather(content_ids)
            forth = _cross_entropy(scale(one), gather(other), content_ids, everywhere)
            back = _cross_entropy(scale(other), gather(one), content_ids, everywhere)
        return (forth + back) / 2, torch.tensor(len(one), device=one.device)


def comparable(cls: Float[Tensor, "items hidden"], similarity: str) -> Float[Tensor, "items hidden"]:
    """Vectors whose dot product is the similarity, in float32."""
    return F.normalize(cls.float(), dim=-1) if similarity == "cosine" else cls.float()


def _cross_entropy(
    queries: Float[Tensor, "items hidden"],
    answers: Float[Tensor, "all_items hidden"],
    content_ids: Int[Tensor, "items towers"] | None,
    everywhere: Int[Tensor, "all_items towers"] | None,
) -> Float[Tensor, ""]:
    """Summed over this rank's queries: the cross-entropy of each one's own answer among those of all ranks.

    No more than SCORES similarities are in memory at once; the backward pass recomputes those of a large batch.
    """
    own = torch.arange(len(queries), device=queries.device) + rank() * len(queries)
    rows = max(1, SCORES // len(answers))
    if len(queries) <= rows:
        return _some_rows(queries, answers, own, content_ids, everywhere)
    known = [None] * -(-len(queries) // rows) if content_ids is None else content_ids.split(rows)
    parts = [
        checkpoint(_some_rows, some, answers, places, ids, everywhere, use_reentrant=False, preserve_rng_state=False)
        for some, places, ids in zip(queries.split(rows), own.split(rows), known, strict=True)
    ]
    return torch.stack(parts).sum()


def _some_rows(
    queries: Float[Tensor, "rows hidden"],
    answers: Float[Tensor, "all_items hidden"],
    own: Int[Tensor, " rows"],
    content_ids: Int[Tensor, "rows towers"] | None,
    everywhere: Int[Tensor, "all_items towers"] | None,
) -> Float[Tensor, ""]:
    scores = queries @ answers.T
    if content_ids is not None and everywhere is not None:
        duplicate = (content_ids[:, None] == everywhere).any(-1)  # (rows, all items)
        duplicate[torch.arange(len(own), device=own.device), own] = False
        scores = scores.masked_fill(duplicate, -math.inf)
    return F.cross_entropy(scores, own, reduction="sum")
