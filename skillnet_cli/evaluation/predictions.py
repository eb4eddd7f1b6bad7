"""Protocols of objectives that answer something about every item: its class, its transcript, what was hidden in it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from skillnet_cli.api import DamagedItem, FailedJob, Features
from skillnet_cli.evaluation.items import (
    LOSS,
    Findings,
    Item,
    ItemReader,
    Work,
    by_chance,
    described,
    scorer,
    towers_to_device,
)
from skillnet_cli.inference.encoder import to_device
from skillnet_cli.objectives import Targets

Hidden: TypeAlias = "tuple[list[list[Features]], Any]"
"""An item's towers × segments with something hidden, and what the loss must know of it."""


def transcribe(work: Work) -> Findings:
    """As :func:`answer`, the transcripts being decoded greedily; unknown characters of a reference count as errors."""
    findings = answer(work)
    findings.protocol["decoding"] = "greedy"
    return findings


def answer(work: Work) -> Findings:
    """The task's metrics over an answer to every item. A reference that is not among the labels counts as missed."""
    objective = work.model.objectives[work.task.name]
    reader = ItemReader(work.task, work.readers)
    answers: dict[int, tuple[Item, str]] = {}
    for batch in reader.batches(work.split, work.indices):
        towers = towers_to_device(reader.collate([item.towers for item in batch]), work.model.device)
        decoded = objective.decode(work.model.predict(work.task.name, towers))
        answers.update(
            (item.index, (replace(item, towers=[]), text)) for item, text in zip(batch, decoded, strict=True)
        )
    found = [answers[index] for index in sorted(answers)]
    return Findings(
        metrics=_score(work, [answer for _, answer in found], [item.reference for item, _ in found]),
        items=len(found),
        queries=len(found),
        damaged=len(reader.damaged),
        protocol=_protocol(work),
        cases=_cases(found),
    )


def _cases(found: Sequence[tuple[Item, str]]) -> tuple[dict[str, Any], ...]:
    shown = by_chance({place: item.id for place, (item, _) in enumerate(found)})
    rows = (found[place] for place in shown)
    return tuple({"index": item.index, "predicted": answer, "reference": item.reference} for item, answer in rows)


def fill_in(work: Work) -> Findings:
    """Loss a hidden place, and the task's metrics over hidden places; what is hidden depends on the item's id alone."""
    reader = ItemReader(work.task, work.readers)
    hider = work.model.objectives[work.task.name].targets(work.task, work.readers)
    total, items = 0.0, 0
    predicted: list[Any] = []
    wanted: list[Any] = []
    for batch in reader.batches(work.split, work.indices):
        hidden = _hide(batch, hider, reader)
        if not hidden:
            continue
        loss, answers, truth = _ask(work, reader, hider, hidden)
        total, items = total + loss, items + len(hidden)
        predicted += answers
        wanted += truth
    metrics = {**_score(work, predicted, wanted), LOSS: total / max(1, len(wanted))}
    stated = {**_protocol(work), "hidden": "by the item's id"}
    return Findings(metrics, items, len(wanted), len(reader.damaged), stated)


def _hide(batch: Sequence[Item], hider: Targets, reader: ItemReader) -> list[Hidden]:
    hidden = []
    for item in batch:
        rng = np.random.default_rng(zlib.crc32(item.id.encode()))
        try:
            hidden.append(hider.example(item.towers, item.reference, rng))
        except DamagedItem as error:
            reader.damaged.append((item.id, str(error)))
    return hidden


def _ask(
    work: Work, reader: ItemReader, hider: Targets, hidden: Sequence[Hidden]
) -> tuple[float, list[Any], list[Any]]:
    """The summed loss of a batch, its answers and the truth, one a hidden place."""
    batches = reader.collate([towers for towers, _ in hidden])
    targets = to_device(hider.collate(batches, [wanted for _, wanted in hidden]), work.model.device)
    towers = towers_to_device(batches, work.model.device)
    loss, _ = work.model(work.task.name, towers, targets)
    answers, truth = work.model.predict(work.task.name, towers, targets)
    return loss.item(), answers.tolist(), truth.tolist()


def _score(work: Work, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
    """The task's metrics. Raises FailedJob where nothing could be read."""
    if not references:
        raise FailedJob(
            f"task '{work.task.name}': none of {len(work.indices)} items of {work.split.name} could be read"
        )
    return {name: scorer(name, work.registry)(predictions, references) for name in work.task.metrics}


def _protocol(work: Work) -> dict[str, Any]:
    """How each of the task's metrics is computed, in its own words."""
    return {"metrics": {name: described(name, work.registry) for name in work.task.metrics}}
