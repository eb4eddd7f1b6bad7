"""The stage's tasks measured on their dev splits while it trains."""

from __future__ import annotations

from skillnet_cli.engine.distribution import Ranks
from skillnet_cli.engine.plan import StagePlan
from skillnet_cli.engine.state import load_model_tensors, model_tensors
from skillnet_cli.evaluation.evaluate import evaluate
from skillnet_cli.evaluation.result import Result
from skillnet_cli.model.skillnet import SkillNet


def measure(model: SkillNet, plan: StagePlan, limit: int | None) -> list[Result]:
    """Every task of the stage on every dev split that its sets have, on at most ``limit`` items of each.

    Those are drawn by the recipe's seed, the same each time. No random number that training uses is drawn: every step
    seeds its own.
    """
    return [
        evaluate(model, plan.readers, task.config, split, limit=limit, seed=plan.recipe.seed)
        for task in plan.tasks.values()
        for split in task.dev_splits()
    ]


def gathered(model: SkillNet, plan: StagePlan, ranks: Ranks) -> SkillNet | None:
    """The model in one piece on the main rank, None on the others. All ranks must call this together.

    Alone, it is the very model that trains.
    """
    if ranks.world == 1:
        return model
    tensors = model_tensors(model)
    if not ranks.is_main:
        return None
    copy = SkillNet(plan.config)
    copy.to(ranks.device)  # type: ignore[arg-type]
    load_model_tensors(copy, tensors, "the trained model")
    return copy
