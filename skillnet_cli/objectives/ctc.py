"""Connectionist temporal classification over frames (paper §4.1, sound)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from skillnet_cli.api import Batch, DamagedItem, Features, Reader, frames_needed
from skillnet_cli.objectives.base import Encoded, Heads, Loss, Objective, Targets, TaskConfig, check_target

BLANK = 0
"""The blank is the head's first output; label i is output i + 1."""


class _TranscriptTargets(Targets):
    """A transcript as the outputs of its characters."""

    def __init__(self, task: TaskConfig, readers: Mapping[str, Reader]) -> None:
        super().__init__(task, readers)
        self.index = {label: index + 1 for label, index in task.label_index().items()}

    def example(
        self, features: list[list[Features]], target: Any, rng: np.random.Generator
    ) -> tuple[list[list[Features]], Tensor]:
        """Raises DamagedItem where a character is unknown, or the recording has too few frames for the transcript."""
        check_target("characters", target)
        unknown = sorted(set(target) - set(self.index))
        if unknown:
            raise DamagedItem(f"characters {''.join(unknown)!r} of the transcript are not in the vocabulary")
        frames = self.readers[self.task.towers[0][0]].length(features[0][0]) - 1
        needed = frames_needed(target)
        if frames < needed:
            raise DamagedItem(f"{frames} frames are too few for a transcript that needs {needed}")
        return features, torch.tensor([self.index[character] for character in target], dtype=torch.int64)

    def collate(self, towers: list[list[Batch]], wanted: list[Any]) -> dict[str, Tensor]:
        return {
            "transcripts": torch.cat(wanted),
            "transcript_lengths": torch.tensor([len(each) for each in wanted], dtype=torch.int64),
        }


class Ctc(Objective):
    """The negative log-likelihood of the transcripts, counted by character."""

    targets = _TranscriptTargets
    evaluation = "skillnet_cli.evaluation.predictions:answer"
    towers = 1
    target_kind = "characters"
    transcribes = True
    protocol: ClassVar[Mapping[str, str]] = {"decoding": "greedy"}

    def heads(self, hidden: int) -> dict[str, Callable[[], nn.Module]]:
        return {self.task.name: lambda: nn.Linear(hidden, 1 + len(self.task.labels))}

    def loss(self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads) -> Loss:
        per_item = self.predict(towers, targets, heads, embedders)
        lengths = targets["transcript_lengths"]
        padded = nn.utils.rnn.pad_sequence(per_item)  # (frames, items, outputs)
        frames = torch.tensor([len(each) for each in per_item], device=lengths.device)
        # The gradient on GPUs is another each time.
        place = torch.device("cpu") if torch.are_deterministic_algorithms_enabled() else padded.device
        given = padded.to(place), targets["transcripts"].to(place), frames.to(place), lengths.to(place)
        total = F.ctc_loss(*given, blank=BLANK, reduction="sum")
        return total.to(padded.device), lengths.sum()

    def decode(self, predicted: Sequence[Float[Tensor, "_ outputs"]]) -> list[str]:
        """The transcript of every item, decoded greedily."""
        return [greedy(frames, self.task.labels) for frames in predicted]

    @staticmethod
    def symbols(target: str) -> set[str]:
        return set(target)

    def dummy_targets(self, items: int, lengths: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """A character for every ten frames, which is five a second at 20 ms."""
        characters = max(1, (lengths[0][0] - 1) // 10)
        return {
            "transcripts": torch.ones(items * characters, dtype=torch.int64),
            "transcript_lengths": torch.full((items,), characters),
        }

    def predict(
        self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads
    ) -> list[Float[Tensor, "frames outputs"]]:
        """Log-probabilities of blank and labels, one tensor an item."""
        frames, lengths = towers[0].without_cls()
        logits = heads[self.task.name](frames).float()
        return list(F.log_softmax(logits, dim=-1).split(lengths.tolist()))


def greedy(log_probabilities: Float[Tensor, "frames outputs"], labels: Sequence[str]) -> str:
    """The transcript of the best output of every frame: repeats merged, blanks dropped."""
    outputs = torch.unique_consecutive(log_probabilities.argmax(dim=-1)).tolist()
    return "".join(labels[output - 1] for output in outputs if output != BLANK)
