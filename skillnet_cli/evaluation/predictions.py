"""Protocols of objectives that predict something of every item: its class, its transcript, what is hidden in it.

Items pass through the pipeline of training (:mod:`skillnet_cli.data.pipeline`) without its choices and augmentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from skillnet_cli.api import DamagedItem, Features, Reader, UserError
from skillnet_cli.data.pipeline import Example, TaskBatch, TaskPipeline
from skillnet_cli.evaluation.evaluate import Evaluation
from skillnet_cli.evaluation.metrics import LOSS
from skillnet_cli.inference.encoder import by_length
from skillnet_cli.objectives import SYMBOLS, Targets, TaskConfig, check_target
from skillnet_cli.pace import advanced
from skillnet_cli.runs import Result

UNKNOWN = "unknown"
"""The key of a protocol that says how many items the model cannot be right about."""


def answer(evaluation: Evaluation) -> Result:
    """The task's metrics over an answer to every item, against the item's whole reference.

    A reference that the objective could not be trained towards, such as an unknown label or a transcript with unknown
    characters, counts as the metric counts a wrong answer.
    """
    # The plain Targets pass references on as they are; the objective's own refuse those that are not among its labels.
    items = _Items(evaluation, _References(evaluation.task, evaluation.readers, evaluation.objective.target_kind))
    _check_known(evaluation)
    answers: dict[int, tuple[str, Any, Any]] = {}
    for examples, batch in items.batches():
        decoded = evaluation.objective.decode(evaluation.model.predict(evaluation.task.name, batch.towers))
        for (index, example), predicted in zip(examples, decoded, strict=True):
            answers[index] = example.id, predicted, example.wanted
    answers = dict(evaluation.gather(answers.items()))
    damaged = items.all_damaged()
    indices = sorted(answers)  # batches come by length, metrics and examples in the order of the split
    ids, predictions, references = zip(*(answers[index] for index in indices), strict=True)
    cases = (
        {"index": indices[place], "predicted": predictions[place], "reference": references[place]}
        for place in evaluation.choose_examples(ids)
    )
    return evaluation.result(
        evaluation.score(list(predictions), list(references)),
        items=len(indices),
        queries=len(indices),
        damaged=len(damaged),
        protocol={
            "metrics": evaluation.describe_metrics(),
            **_unknown_symbols(evaluation, references),
            **evaluation.objective.protocol,
        },
        cases=tuple(cases),
    )


class _References(Targets):
    """An item's reference as the set has it, checked to be of the objective's kind."""

    def __init__(self, task: TaskConfig, readers: Mapping[str, Reader], kind: str) -> None:
        super().__init__(task, readers)
        self._kind = kind

    def example(
        self, features: list[list[Features]], target: Any, rng: np.random.Generator
    ) -> tuple[list[list[Features]], Any]:
        """Raises DamagedItem where the reference cannot be one."""
        if self.task.target is not None:
            check_target(self._kind, target)
        return features, target


def _check_known(evaluation: Evaluation) -> None:
    """Raise UserError where the model knows nothing of any item's target: every answer would be wrong.

    Reads items until it finds one that it knows, which usually is the first.
    """
    name, objective = evaluation.task.target, evaluation.objective
    known = set(evaluation.task.labels)
    first: Any = None
    if name is None or not known:
        return
    for index in evaluation.indices:
        target = evaluation.split[index].get(name)
        try:
            check_target(objective.target_kind, target)
        except DamagedItem:
            continue
        symbols = objective.symbols(target)
        if not symbols or symbols & known:
            return
        first = target if first is None else first
    if first is not None:
        split, what = evaluation.split, SYMBOLS.get(objective.target_kind, "labels")
        raise UserError(
            f"task '{evaluation.task.name}' cannot be measured: none of the {what} of {split.set_name}:{split.name} "
            f"is one of the {len(known)} that the model knows; its first {name} is {shortened(str(first))!r}, "
            f"the model has {', '.join(map(shortened, evaluation.task.labels[:3]))}, …"
        )


def shortened(text: str, most: int = 40) -> str:
    """A text for the middle of a line."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _unknown_symbols(evaluation: Evaluation, references: Sequence[Any]) -> dict[str, str]:
    """How many items have a target that the model cannot answer with; nothing where it knows all."""
    objective, known = evaluation.objective, set(evaluation.task.labels)
    strange = sum(bool(objective.symbols(each) - known) for each in references) if known else 0
    if not strange:
        return {}
    what = SYMBOLS.get(objective.target_kind, "labels")
    return {UNKNOWN: f"{strange} of {len(references)} items have {what} that the model does not know"}


def fill_in(evaluation: Evaluation) -> Result:
    """The loss of a hidden place, and the task's metrics over hidden places.

    What is hidden depends on the item's id alone, so that models of any seed are asked the same.
    """
    items = _Items(evaluation, evaluation.objective.targets(evaluation.task, evaluation.readers))
    model, task = evaluation.model, evaluation.task.name
    losses: list[tuple[float, int]] = []
    predictions: list[Any] = []
    references: list[Any] = []
    for examples, batch in items.batches():
        loss, _ = model(task, batch.towers, batch.targets)
        predicted, truth = model.predict(task, batch.towers, batch.targets)
        losses.append((loss.item(), len(examples)))
        predictions += predicted.tolist()
        references += truth.tolist()
    losses, predictions, references = map(evaluation.gather, (losses, predictions, references))
    damaged = items.all_damaged()
    total = sum(loss for loss, _ in losses)
    return evaluation.result(
        {**evaluation.score(predictions, references), LOSS: total / max(1, len(references))},
        items=sum(count for _, count in losses),
        queries=len(references),
        damaged=len(damaged),
        protocol={"metrics": evaluation.describe_metrics(), "hidden": "by the item's id"},
    )


class _Items:
    """This rank's share of the items of an evaluation, in batches of like lengths."""

    def __init__(self, evaluation: Evaluation, targets: Targets) -> None:
        self._damaged: list[str] = []
        self._evaluation = evaluation
        self._pipeline = TaskPipeline(evaluation.task, evaluation.readers, targets)

    def batches(self) -> Iterator[tuple[list[tuple[int, Example]], TaskBatch]]:
        """(place in the split, example) of a batch's items, and the batch on the model's device."""
        size = self._evaluation.batch_size
        for some in by_length(self._read(), lambda item: item[1].length, size=size):
            batch = self._pipeline.batch([example for _, example in some])
            yield some, batch.to(self._evaluation.model.device)
            advanced()

    def all_damaged(self) -> list[str]:
        """Why items could not be read, on whichever rank: asked when the batches have ended. Together on all ranks.

        Raises:
            FailedJob: none of the items could be read.
        """
        damaged = self._evaluation.gather(self._damaged)
        if len(damaged) == len(self._evaluation.indices):
            raise self._evaluation.unreadable(damaged)
        return damaged

    def _read(self) -> Iterator[tuple[int, Example]]:
        for index in self._evaluation.share(self._evaluation.indices):
            try:
                yield index, self._pipeline.example(self._evaluation.split[index], None)
            except DamagedItem as error:
                self._damaged.append(str(error))
