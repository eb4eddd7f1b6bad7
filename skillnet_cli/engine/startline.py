"""What a run says before its first step: what it will do, with what, on what."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from skillnet_cli import objectives
from skillnet_cli.engine.forecasting.budget import checkpoint_bytes, kept_beside
from skillnet_cli.engine.lineage import ancestors
from skillnet_cli.engine.plan import StagePlan, TaskPlan
from skillnet_cli.engine.ranks.distribution import Ranks
from skillnet_cli.model.count import activated_parameters
from skillnet_cli.model.flops import Flops
from skillnet_cli.model.skillnet import SkillNet

NAMED = 3
"""Names listed before the rest is only counted."""


def start_lines(
    plan: StagePlan, model: SkillNet, ranks: Ranks, precision: str, start: Path | None, fresh: Sequence[str]
) -> Iterator[str]:
    """The stage in a line, then a line a task.

    ``start`` is the folder that the parameters come from, ``fresh`` are those that it does not have.
    """
    stage = plan.stage
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    yield (
        f"{plan.name} of {plan.recipe.name}: {stage.steps:,} steps at lr {stage.lr:g} ({stage.schedule}, "
        f"{stage.warmup:,} to warm up), {total / 1e6:.1f} M parameters, {precision}, "
        f"seed {plan.recipe.seed}, {_place(ranks)}"
    )
    yield f"  from {start or 'fresh parameters'}{_named(fresh)}"
    if start:
        yield from _started(plan)
    if stage.freeze:
        yield f"  frozen: {', '.join(stage.freeze)}; {trained / 1e6:.1f} M parameters train"
    ratios, flops = sum(task.settings.ratio for task in plan.tasks.values()), Flops(model)
    for name, task in plan.tasks.items():
        activated = f"{activated_parameters(model, name) / 1e6:.1f} M activated{_work(flops.of_task(name))}"
        yield f"  {name}: {_task(task, stage.steps, ratios)}, {activated}"
    saved = checkpoint_bytes(total, trained, kept_beside(stage))
    yield f"  checkpoints of {saved / 1e9:.2f} GB every {stage.checkpoints.every:,} steps"


def _started(plan: StagePlan) -> Iterator[str]:
    """What the tasks of a separate model start from, where that is another task's pretraining."""
    found = ancestors(plan)
    if found:
        fresh = [
            name for name in plan.tasks if name not in found and name not in (plan.recipe.pretrain or plan.stage).tasks
        ]
        told = [f"{name} from {ancestor}" for name, ancestor in found.items()]
        yield f"  started: {', '.join([*told, *(f'{name} fresh' for name in fresh)])}"


def say(ranks: Ranks, lines: Iterator[str] | Sequence[str]) -> None:
    """Print lines on standard error, on the main rank alone."""
    if ranks.is_main:
        for line in lines:
            print(line, file=sys.stderr, flush=True)


def _work(flops: Counter[str] | None) -> str:
    return "" if flops is None else f" ({sum(flops.values()) / 1e9:.1f} GFLOPs forward for its longest item)"


def _place(ranks: Ranks) -> str:
    threads = f", {torch.get_num_threads()} threads each" if ranks.device.type == "cpu" else ""
    return f"{ranks.world} {ranks.device.type} process{'es' if ranks.world > 1 else ''}{threads}"


def _named(fresh: Sequence[str]) -> str:
    if not fresh:
        return ""
    more = f" and {len(fresh) - NAMED} more" if len(fresh) > NAMED else ""
    return f", which lacks {', '.join(fresh[:NAMED])}{more} (fresh)"


def _task(task: TaskPlan, steps: int, ratios: int) -> str:
    items = sum(map(len, task.splits))
    seen = steps * task.settings.ratio / ratios * task.settings.batch
    batch = f"batches of {task.settings.batch:,}"
    if issubclass(objectives.load(task.config.objective), objectives.ComparingObjective):
        batch += f" ({task.settings.batch - 1:,} negatives, chance {math.log(task.settings.batch):.2f})"
    share = f"{task.settings.ratio}/{ratios} of the updates"
    return f"{share}, {batch}, {items:,} items of {' + '.join(task.sets)} ({seen / items:.1f} epochs)"
