"""Metrics by name: the core's own and those that plugins bring."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from skillnet_cli.api import FailedJob
from skillnet_cli.plugins import Registry, resolve

LOSS = "loss"
"""The figure of tasks that are measured by how well they fill in what is hidden; it is no metric of a plugin."""

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
        registry.check_brought("metric", name)
    found: Scorer = resolve(name if ":" in name else registry.metric(name).compute)
    return found


def higher_is_better(name: str, registry: Registry) -> bool:
    """Whether a larger figure is the better one: as the metric's plugin says; not for a loss; else yes."""
    known = registry.metrics.get(name)
    return known.value.higher_is_better if known is not None else name != LOSS


def described(name: str, registry: Registry) -> dict[str, str]:
    """What computes a metric, and the ``NORMALISER`` that its module says it puts texts through, if it says so."""
    function = scorer(name, registry)
    facts = {"computed by": f"{function.__module__}:{function.__qualname__}"}
    normaliser = getattr(sys.modules[function.__module__], "NORMALISER", None)
    return facts if normaliser is None else {**facts, "normaliser": str(normaliser)}
