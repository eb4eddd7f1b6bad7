"""Measures one task of a model on one split of a prepared set, by the protocol of the task's objective."""

from __future__ import annotations

from collections.abc import Mapping

from skillnet_cli.api import Reader, UserError
from skillnet_cli.data.prepared import Split
from skillnet_cli.evaluation.items import Work, spread
from skillnet_cli.inference.encoder import inferring
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import Registry, load_registry, resolve
from skillnet_cli.runs import Result


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
        UserError: nothing measures the task's objective, or a metric of the task is not installed or does not fit it.
    """
    protocol = model.objectives[task.name].evaluation
    if protocol is None:
        raise UserError(f"task '{task.name}' cannot be measured: its objective '{task.objective}' has no evaluation")
    work = Work(model, readers, task, split, spread(len(split), limit, seed), registry or load_registry(), precision)
    with inferring(model, precision):
        findings = resolve(protocol)(work)
    return Result(task=task.name, set=split.set_name, split=split.name, **findings.__dict__)
