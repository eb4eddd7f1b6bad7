"""The stage's tasks measured on their dev splits while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from skillnet_cli.engine.plan import StagePlan
from skillnet_cli.engine.ranks.distribution import Ranks
from skillnet_cli.engine.saving.state import load_model_tensors, whole_tensors
from skillnet_cli.engine.update import Updater
from skillnet_cli.evaluation.evaluate import evaluate
from skillnet_cli.evaluation.result import Result
from skillnet_cli.model.skillnet import SkillNet


def measure(model: SkillNet, plan: StagePlan, limit: int | None, precision: str) -> list[Result]:
    """Every task of the stage on every dev split that its sets have, on at most ``limit`` items of each.

    Those are drawn by the recipe's seed, the same each time. No random number that training uses is drawn: every step
    seeds its own. ``precision`` is the one that the stage trains in, so that figures of one run can be compared
    wherever it goes on.
    """
    return [
        evaluate(model, plan.readers, task.config, split, limit=limit, seed=plan.recipe.seed, precision=precision)
        for task in plan.tasks.values()
        for split in task.dev_splits()
    ]


@contextmanager
def shown(updater: Updater, plan: StagePlan) -> Iterator[SkillNet | None]:
    """The model that is measured and exported: with averaged parameters where updates are averaged.

    It is in one piece on the main rank, None on the others. All ranks must enter and leave together.
    """
    with updater.average.in_place() if updater.average is not None else nullcontext():
        yield gathered(updater.model, plan, updater.ranks)


def gathered(model: SkillNet, plan: StagePlan, ranks: Ranks) -> SkillNet | None:
    """The model in one piece on the main rank, None on the others. All ranks must call this together.

    Alone, it is the very model that trains.
    """
    if ranks.world == 1:
        return model
    tensors = whole_tensors(model, ranks.is_main)
    if not ranks.is_main:
        return None
    copy = SkillNet(plan.config)
    copy.to(ranks.device)
    load_model_tensors(copy, tensors, "the trained model")
    return copy
