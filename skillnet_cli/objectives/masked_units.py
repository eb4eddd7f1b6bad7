"""Prediction of masked frames' units, a simplified HuBERT (paper §4.2, sound)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from skillnet_cli.api import Batch, DamagedItem, Features
from skillnet_cli.objectives.base import Encoded, Heads, Loss, Objective, Targets, check_target

STARTS, SPAN = 0.05, 10
"""The share of frames at which a hidden span starts, and its frames (paper §4.2; wav2vec 2.0 has 0.065 and 10)."""


class _UnitTargets(Targets):
    """Hides spans of an item's frames and keeps the units of all."""

    def example(
        self, features: list[list[Features]], target: Any, rng: np.random.Generator
    ) -> tuple[list[list[Features]], tuple[np.ndarray, np.ndarray]]:
        """Raises DamagedItem where there is not one unit a frame, or a unit is not in the list of the task."""
        check_target("units", target)
        frames = self.readers[self.task.towers[0][0]].length(features[0][0]) - 1
        units = np.asarray(target, dtype=np.int64)
        if len(units) != frames:
            raise DamagedItem(f"{len(units)} units for {frames} frames")
        if units.min() < 0 or units.max() >= len(self.task.labels):
            raise DamagedItem(f"a unit outside 0 to {len(self.task.labels) - 1}")
        return features, (span_mask(frames, rng), units)

    def collate(self, towers: list[list[Batch]], wanted: list[Any]) -> dict[str, Tensor]:
        """``units`` of the hidden frames; the first tower's ``mask`` covers [CLS] (never hidden) and frames."""
        masks = [np.concatenate([[False], mask]) for mask, _ in wanted]
        towers[0][0]["mask"] = torch.from_numpy(np.concatenate(masks))
        return {
            "hidden": torch.from_numpy(np.concatenate([mask for mask, _ in wanted])),
            "units": torch.from_numpy(np.concatenate([units[mask] for mask, units in wanted])),
        }


def span_mask(frames: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """True at hidden frames: 5 % of the frames start a span of 10, overlapping freely (wav2vec 2.0; about 40 %)."""
    expected = STARTS * frames
    count = min(frames, max(1, int(expected + rng.random())))
    starts = rng.choice(frames, size=count, replace=False)
    mask = np.zeros(frames, dtype=bool)
    places = (starts[:, None] + np.arange(SPAN)).ravel()
    mask[places[places < frames]] = True
    return mask


class MaskedUnits(Objective):
    """Cross-entropy of the hidden frames' units; counted by hidden frame."""

    targets = _UnitTargets
    target_kind = "units"
    evaluation = "skillnet_cli.evaluation.predictions:fill_in"
    towers = 1

    def heads(self, hidden: int) -> dict[str, Callable[[], nn.Module]]:
        return {self.task.name: lambda: nn.Linear(hidden, len(self.task.labels))}

    def loss(self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads) -> Loss:
        logits, units = self._logits(towers, targets, heads), targets["units"]
        return F.cross_entropy(logits, units, reduction="sum"), torch.tensor(len(units), device=logits.device)

    @staticmethod
    def symbols(target: Sequence[int]) -> set[str]:
        return {str(unit) for unit in target}

    def dummy_targets(self, items: int, lengths: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Two of five frames are hidden, as the spans come to."""
        hidden = torch.arange(items * (lengths[0][0] - 1)) % 5 < 2
        return {"hidden": hidden, "units": torch.zeros(int(hidden.sum()), dtype=torch.int64)}

    def predict(
        self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads
    ) -> tuple[Int[Tensor, " hidden_frames"], Int[Tensor, " hidden_frames"]]:
        """The most likely unit of every hidden frame, and the true one."""
        return self._logits(towers, targets, heads).argmax(-1), targets["units"]

    def _logits(self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads) -> Tensor:
        frames, _ = towers[0].without_cls()
        logits: Tensor = heads[self.task.name](frames[targets["hidden"]])
        return logits.float()
