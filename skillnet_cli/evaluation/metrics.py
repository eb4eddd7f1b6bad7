"""The metrics that tasks are measured by: accuracy, and those that plugins bring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from skillnet_cli.api import FailedJob
from skillnet_cli.plugins import Registry, resolve

LOSS = "loss"
"""The loss of a hidden place (:func:`skillnet_cli.evaluation.predictions.fill_in`): a figure that no plugin brings."""

Scorer: TypeAlias = "Callable[[Sequence[Any], Sequence[Any]], float]"
"""(predictions, references) -> figure."""


def accuracy(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """The share of predictions that equal their reference. Raises FailedJob where there is none."""
    if not references:
        raise FailedJob("there is nothing to measure accuracy with")
    right = sum(prediction == reference for prediction, reference in zip(predictions, references, strict=True))
    return right / len(references)


def scorer(name: str, registry: Registry) -> Scorer:
    """The metric of that name, or of that ``"module:attribute"``. Raises UserError where no plugin brings it."""
    if name == "accuracy":
        return accuracy
    if ":" in name:
        # The name may come from a model's configuration, which is data: only what a plugin names is imported.
        registry.check_brought("metric", name)
    found: Scorer = resolve(name if ":" in name else registry.metric(name).compute)
    return found


def higher_is_better(name: str, registry: Registry) -> bool:
    """Whether a larger figure is the better one: as the metric's plugin says; not for a loss; else yes."""
    known = registry.metrics.get(name)
    return known.value.higher_is_better if known is not None else name != LOSS
