"""Classification from the sequence's [CLS] (paper §4.1, text)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from skillnet_cli.api import Batch, DamagedItem, Features, Reader
from skillnet_cli.objectives.base import Encoded, Heads, Loss, Objective, Targets, TaskConfig, check_target


class _ClassTargets(Targets):
    """An item's class as its place among the task's labels."""

    def __init__(self, task: TaskConfig, readers: Mapping[str, Reader]) -> None:
        super().__init__(task, readers)
        self.index = task.label_index()

    def example(
        self, features: list[list[Features]], target: Any, rng: np.random.Generator
    ) -> tuple[list[list[Features]], int]:
        """Raises DamagedItem where the label is not in the task's list."""
        check_target("class", target)
        if target not in self.index:
            raise DamagedItem(
                f"label {target!r} is not in the list of {len(self.index)} labels of task '{self.task.name}'"
            )
        return features, self.index[target]

    def collate(self, towers: list[list[Batch]], wanted: list[Any]) -> dict[str, Tensor]:
        return {"classes": torch.tensor(wanted, dtype=torch.int64)}


class Classification(Objective):
    """Softmax cross-entropy over the task's labels, from a linear layer on the first tower's [CLS]."""

    targets = _ClassTargets
    classifies = True
    evaluation = "skillnet_cli.evaluation.predictions:answer"
    towers = 1

    def heads(self, hidden: int) -> dict[str, Callable[[], nn.Module]]:
        return {self.task.name: lambda: nn.Linear(hidden, len(self.task.labels))}

    def loss(self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads) -> Loss:
        classes = targets["classes"]
        logits = heads[self.task.name](towers[0].cls).float()
        return F.cross_entropy(logits, classes, reduction="sum"), torch.tensor(len(classes), device=logits.device)

    def decode(self, predicted: Float[Tensor, "items classes"]) -> list[str]:
        """The most likely label of every item."""
        return [self.task.labels[best] for best in predicted.argmax(-1).tolist()]

    def probabilities(self, predicted: Float[Tensor, "items classes"]) -> Float[Tensor, "items classes"]:
        return predicted.exp()

    @staticmethod
    def symbols(target: str) -> set[str]:
        return {target}

    def dummy_targets(self, items: int, lengths: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        return {"classes": torch.zeros(items, dtype=torch.int64)}

    def predict(
        self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads
    ) -> Float[Tensor, "items classes"]:
        """Log-probabilities of the classes."""
        return F.log_softmax(heads[self.task.name](towers[0].cls).float(), dim=-1)
