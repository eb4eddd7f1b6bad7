"""Measures one task of a model on one split of a prepared set, by the protocol of the task's objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from skillnet_cli.api import Reader
from skillnet_cli.data.prepared import Split
from skillnet_cli.evaluation.items import Findings, Work, spread
from skillnet_cli.evaluation.predictions import classify, fill_in, transcribe
from skillnet_cli.evaluation.retrieval import retrieve
from skillnet_cli.inference.encoder import inferring
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import Registry, load_registry
from skillnet_cli.runs import Result

PROTOCOLS: dict[str, Callable[[Work], Findings]] = {
    "classification": classify,
    "ctc": transcribe,
    "contrastive": retrieve,
}
"""By objective. Any other hides something of its items and is asked for it: :func:`fill_in`."""


def evaluate(
    model: SkillNet,
    readers: Mapping[str, Reader],
    task: TaskConfig,
    split: Split,
    *,
    limit: int | None = None,
    seed: int | None = None,
    registry: Registry | None = None,
    precision: str = "auto",
) -> Result:
    """Measure ``task`` on a split, or on ``limit`` items evenly spread over it; with a ``seed``, drawn by it.

    ``precision`` is what the model computes in: the hardware's own, ``"bf16"`` or ``"fp32"``.

    Raises:
        FailedJob: none of the items could be read, or the model's answers are not finite.
        UserError: a metric of the task is not installed, or does not fit its objective.
    """
    work = Work(model, readers, task, split, spread(len(split), limit, seed), registry or load_registry(), precision)
    with inferring(model, precision):
        findings = PROTOCOLS.get(task.objective, fill_in)(work)
    return Result(task=task.name, set=split.set_name, split=split.name, **findings.__dict__)
