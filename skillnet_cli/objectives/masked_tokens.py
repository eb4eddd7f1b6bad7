"""Masked language modelling (paper §4.2: text; code and text in one sequence), as BERT does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from skillnet_cli.api import Batch, Features, Reader, UserError, Vocabulary
from skillnet_cli.objectives.base import Encoded, Heads, Loss, Objective, Targets, TaskConfig

MASKED = 0.15
"""The share of tokens that is hidden: BERT's, and the paper's (§4.2)."""
IGNORED = -100
"""The target of tokens that are not hidden: what torch's cross-entropy passes over by default."""


class _MaskedTokenTargets(Targets):
    """Hides 15 % of an item's tokens and keeps what they were."""

    def __init__(self, task: TaskConfig, readers: Mapping[str, Reader]) -> None:
        """Raises UserError where the items of one of the task's skills have no vocabulary."""
        super().__init__(task, readers)
        for skill in task.skills:
            if not hasattr(readers[skill], "vocabulary"):
                raise UserError(f"task '{task.name}': items of skill '{skill}' are not made of tokens to be hidden")

    def example(
        self, features: list[list[Features]], target: Any, rng: np.random.Generator
    ) -> tuple[list[list[Features]], list[Tensor]]:
        (segments,) = features
        vocabularies = [self.readers[skill].vocabulary for skill in self.task.towers[0]]  # type: ignore[attr-defined]
        pairs = [corrupt(ids, vocabulary, rng) for ids, vocabulary in zip(segments, vocabularies, strict=True)]
        return [[ids for ids, _ in pairs]], [wanted for _, wanted in pairs]

    def collate(self, towers: list[list[Batch]], wanted: list[Any]) -> dict[str, Tensor]:
        """``tokens_0``, ``tokens_1``, …: for each segment the hidden tokens, packed, -100 where none was hidden."""
        return {f"tokens_{index}": torch.cat(tokens) for index, tokens in enumerate(zip(*wanted, strict=True))}


def corrupt(
    ids: Int[Tensor, " tokens"], vocabulary: Vocabulary, rng: np.random.Generator
) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " tokens"]]:
    """Choose 15 % of the tokens: 80 % of them become [MASK], 10 % a random token, 10 % stay (paper §4.2).

    Returns:
        The ids as the model sees them, and the original ids of the chosen tokens (-100 elsewhere). At least one
        token is chosen where there is any but special ones.
    """
    seen = ids.numpy()
    candidates = np.flatnonzero(~np.isin(seen, list(vocabulary.special_ids)))
    count = min(len(candidates), max(1, round(MASKED * len(candidates))))
    chosen = rng.choice(candidates, size=count, replace=False)
    fate = rng.random(count)
    random_ids = rng.choice(_ordinary_ids(vocabulary.size, frozenset(vocabulary.special_ids)), size=count)
    wanted = np.full_like(seen, IGNORED)
    wanted[chosen] = seen[chosen]
    shown = seen.copy()
    shown[chosen] = np.where(fate < 0.8, vocabulary.mask_id, np.where(fate < 0.9, random_ids, seen[chosen]))
    return torch.from_numpy(shown), torch.from_numpy(wanted)


@lru_cache(maxsize=16)
def _ordinary_ids(size: int, special_ids: frozenset[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """All ids of a vocabulary but the special ones; made once, since a large one takes milliseconds to go through."""
    return np.setdiff1d(np.arange(size), list(special_ids))


class _TokenHead(nn.Module):
    """BERT's prediction head: a dense layer, gelu, layer norm; then the embedder's own table."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(
        self, hidden: Float[Tensor, "tokens hidden"], table: Float[Tensor, "vocabulary hidden"]
    ) -> Float[Tensor, "tokens vocabulary"]:
        return F.linear(self.norm(F.gelu(self.dense(hidden))), table)


def _head_name(skill: str) -> str:
    """Masked-token heads go by vocabulary, not by task: one a skill."""
    return f"tokens-{skill}"


class MaskedTokens(Objective):
    """Cross-entropy of the hidden tokens, each segment over its own vocabulary; counted by hidden token."""

    targets = _MaskedTokenTargets
    evaluation = "skillnet_cli.evaluation.predictions:fill_in"
    towers = 1

    def heads(self, hidden: int) -> dict[str, Callable[[], nn.Module]]:
        return {_head_name(skill): lambda: _TokenHead(hidden) for skill in self.task.skills}

    def loss(self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads) -> Loss:
        parts = self._segments(towers[0], targets, heads, embedders)
        total = torch.stack([F.cross_entropy(logits.float(), wanted, reduction="sum") for logits, wanted in parts])
        count = sum(len(wanted) for _, wanted in parts)
        return total.sum(), torch.tensor(count, device=total.device)

    def dummy_targets(self, items: int, lengths: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Every seventh token is hidden, which is about 15 %."""
        every = round(1 / MASKED)
        segments = [torch.full((items * length,), IGNORED) for length in lengths[0]]
        for tokens in segments:
            tokens[1::every] = 0
        return {f"tokens_{index}": tokens for index, tokens in enumerate(segments)}

    def predict(
        self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads
    ) -> tuple[Int[Tensor, " hidden_tokens"], Int[Tensor, " hidden_tokens"]]:
        """The most likely token at every hidden place, and the true one."""
        parts = self._segments(towers[0], targets, heads, embedders)
        return torch.cat([logits.argmax(-1) for logits, _ in parts]), torch.cat([wanted for _, wanted in parts])

    def _segments(
        self, tower: Encoded, targets: Mapping[str, Tensor], heads: Heads, embedders: Heads
    ) -> list[tuple[Tensor, Tensor]]:
        parts = []
        for index, (skill, rows) in enumerate(zip(self.task.towers[0], tower.rows, strict=True)):
            tokens = targets[f"tokens_{index}"]
            hidden = tokens != IGNORED
            logits = heads[_head_name(skill)](tower.tokens[rows[hidden]], embedders[skill].token_table)
            parts.append((logits, tokens[hidden]))
        return parts
