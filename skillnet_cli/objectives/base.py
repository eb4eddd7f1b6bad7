"""What every objective is made of: its data side (Targets), its heads, its loss and its prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_gather

from skillnet_cli.api import Batch, DamagedItem, Features, Reader, Task, UserError

Loss: TypeAlias = tuple[Float[Tensor, ""], Int[Tensor, ""]]
"""The summed loss and the number of things it was summed over."""


@dataclass(frozen=True)
class TaskConfig(Task):
    """A task as a model has it: with what its target can be, and the sets it is trained on.

    ``labels`` are the classes, characters or units of the target, in the order of the head's outputs.
    """

    labels: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()

    def label_index(self) -> dict[str, int]:
        """Each label's place in ``labels``."""
        return {label: index for index, label in enumerate(self.labels)}


@dataclass(frozen=True)
class Encoded:
    """One tower after the encoder: the packed final tokens of a batch of sequences.

    ``rows`` has for each segment the row in ``tokens`` of every token that its embedder made, -1 for a ``[CLS]``
    that was left out because another segment's stands for the sequence. ``usage`` is how a mixture of experts used
    them (:mod:`skillnet_cli.model.variants`), None in other models.
    """

    tokens: Float[Tensor, "tokens hidden"]
    lengths: Int[Tensor, " items"]
    cls_rows: Int[Tensor, " items"]
    rows: tuple[Int[Tensor, " _"], ...]
    usage: Float[Tensor, "layers 2 experts"] | None = None

    @property
    def cls(self) -> Float[Tensor, "items hidden"]:
        """The vector of each sequence's ``[CLS]``."""
        return self.tokens[self.cls_rows]

    def without_cls(self) -> tuple[Float[Tensor, "frames hidden"], Int[Tensor, " items"]]:
        """The tokens of a tower of one segment, and their lengths, without the ``[CLS]`` in front of each item."""
        keep = self.tokens.new_ones(len(self.tokens), dtype=torch.bool)
        keep[self.cls_rows] = False
        return self.tokens[keep], self.lengths - 1


class Targets:
    """The data side of an objective; it runs in loader workers and holds no parameters."""

    def __init__(self, task: TaskConfig, readers: Mapping[str, Reader]) -> None:
        self.task = task
        self.readers = readers

    def example(
        self, features: list[list[Features]], target: Any, rng: np.random.Generator
    ) -> tuple[list[list[Features]], Any]:
        """Return an item's features as the model shall see them, and what the loss must know of the item.

        Args:
            features: towers × segments.
            target: the value of the sample's field that the task is trained towards; None where it has none.
            rng: the sample's own generator; every random choice comes from it.

        Raises:
            DamagedItem: the target does not fit the task, or the features.
        """
        return features, target

    def collate(self, towers: list[list[Batch]], wanted: list[Any]) -> dict[str, Tensor]:
        """Put what :meth:`example` returned for each item into tensors; may set ``mask`` in a tower's batch."""
        return {}


SYMBOLS = {"class": "labels", "characters": "characters", "units": "units"}
"""What the targets of each kind (:attr:`Objective.target_kind`) are made of, in words."""


def check_target(kind: str, target: Any) -> None:
    """Raise DamagedItem where a value that a set holds cannot be a target of that kind."""
    if kind in ("class", "characters") and not isinstance(target, str):
        raise DamagedItem(f"its target is {type(target).__name__}, not a text")
    if kind == "units" and not (isinstance(target, list) and target and all(type(each) is int for each in target)):
        raise DamagedItem("its target is not a list of whole numbers")


Heads: TypeAlias = nn.ModuleDict


@runtime_checkable
class Limited(Protocol):
    """A head whose parameters have bounds; the engine calls it after every update of a task that uses it."""

    def limit(self) -> None:
        """Bring parameters that have gone beyond a bound back to it; not those that are frozen."""


class Objective(ABC):
    """One loss. Objectives keep no state: their heads belong to the model and are handed to them by name.

    Class attributes state all that the rest of skillnet asks about an objective; a plugin's subclass inherits them.

    Attributes:
        targets: the data side.
        evaluation: the protocol that measures its tasks, as ``"module:function"``; None where nothing measures them.
        compares: whether the loss compares the items of a batch by their vectors (:class:`ComparingObjective`); the
            skills of such a task can be searched.
        target_kind: what the target of its tasks is made of: ``"class"``, ``"characters"`` of a text, or ``"units"``,
            numbers from 0 up; a set's values are read, and its labels listed, by it.
        transcribes: whether :meth:`decode` writes down what is spoken in an item.
        classifies: whether :meth:`probabilities` says how probable each of the task's labels is.
        towers: how many towers a task of it has; None where any number will do.
        protocol: what a report says about the way in which :meth:`decode` finds its answers.
    """

    targets: ClassVar[type[Targets]] = Targets
    evaluation: ClassVar[str | None] = None
    compares: ClassVar[bool] = False
    target_kind: ClassVar[str] = "class"
    transcribes: ClassVar[bool] = False
    classifies: ClassVar[bool] = False
    towers: ClassVar[int | None] = None
    protocol: ClassVar[Mapping[str, str]] = {}

    def __init__(self, task: TaskConfig, similarity: str = "cosine") -> None:
        """``similarity`` is how the model compares vectors: ``"cosine"`` or ``"dot"``.

        Raises:
            UserError: the task has another number of towers than the objective takes.
        """
        if self.towers not in (None, len(task.towers)):
            raise UserError(
                f"task '{task.name}': its objective '{task.objective}' takes {self.towers} of towers, not "
                f"{len(task.towers)}"
            )
        self.task = task
        self.similarity = similarity

    @abstractmethod
    def heads(self, hidden: int) -> dict[str, Callable[[], nn.Module]]:
        """The heads that this task needs, by name; tasks that name the same head share it."""

    @abstractmethod
    def loss(self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads) -> Loss:
        """The loss of a batch as (sum, count); ``embedders`` are those of the first tower's skills, by skill."""

    @abstractmethod
    def predict(self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads) -> Any:
        """What the task answers for a batch; each objective says what that is."""

    def decode(self, predicted: Any) -> Sequence[Any]:
        """The answer to each item of a batch, from what :meth:`predict` returned: what metrics compare."""
        return list(predicted)

    def probabilities(self, predicted: Any) -> Float[Tensor, "items labels"]:
        """Of an objective that classifies: the probability of each label, from what :meth:`predict` returned."""
        raise NotImplementedError

    @staticmethod
    def symbols(target: Any) -> set[str]:
        """What of a target's value must be among the task's labels."""
        return set()

    def dummy_targets(self, items: int, lengths: Sequence[Sequence[int]]) -> dict[str, Tensor] | None:
        """Targets of a batch that only its cost matters of, None where the objective does not say how they look.

        Args:
            items: how many, all alike.
            lengths: towers × segments: the tokens that the embedder makes of one of them, ``[CLS]`` included.
        """
        return None


class ComparingObjective(Objective):
    """A loss that compares the items of the whole global batch, by a vector of each item in each tower.

    All that it sees of an item are its vectors, so a batch that does not fit into memory is computed in chunks, in two
    passes (:mod:`skillnet_cli.engine.step`). Its targets have one row an item. ``content_ids`` among them holds
    a number for each item and tower, equal where the items are the same.
    """

    evaluation = "skillnet_cli.evaluation.retrieval:retrieve"
    compares = True

    @abstractmethod
    def predict(
        self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads
    ) -> tuple[Float[Tensor, "items _"], ...]:
        """The items' vectors, one tensor a tower."""

    @abstractmethod
    def compare(self, vectors: Sequence[Float[Tensor, "items _"]], targets: Mapping[str, Tensor], heads: Heads) -> Loss:
        """The loss of this rank's items among those of all ranks, as (sum, count); all ranks call it together."""

    def loss(self, towers: Sequence[Encoded], targets: Mapping[str, Tensor], heads: Heads, embedders: Heads) -> Loss:
        return self.compare(self.predict(towers, targets, heads, embedders), targets, heads)

    def duplicates(self, targets: Mapping[str, Tensor]) -> Int[Tensor, ""]:
        """How many of this rank's items are, in some tower, the same as another item of the global batch."""
        if "content_ids" not in targets:
            return torch.tensor(0)  # without ids, no items are known to be the same
        own, everywhere = targets["content_ids"], gather(targets["content_ids"])
        return torch.stack([_comes_twice(*columns) for columns in zip(own.T, everywhere.T, strict=True)]).any(0).sum()


def _comes_twice(own: Int[Tensor, " items"], everywhere: Int[Tensor, " all_items"]) -> Bool[Tensor, " items"]:
    values, counts = everywhere.unique(return_counts=True)
    twice: Tensor = counts[torch.searchsorted(values, own.contiguous())] > 1
    return twice


def rank() -> int:
    """This process's rank, 0 outside torch.distributed."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def gather(rows: Shaped[Tensor, "items ..."]) -> Shaped[Tensor, "all_items ..."]:
    """The rows of all ranks in the order of ranks, with gradients to each; equal numbers on every rank."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return rows
    if rows.is_floating_point():
        return torch.cat(all_gather(rows))
    parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
