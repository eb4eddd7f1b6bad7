"""The ``[init]`` of a recipe at the start of a stage: parameters from pretrained models, and the report of it."""

from __future__ import annotations

import json

from skillnet_cli.data.files import write_whole
from skillnet_cli.engine.folders import StageFolder
from skillnet_cli.engine.plan import StagePlan
from skillnet_cli.engine.ranks.distribution import Ranks
from skillnet_cli.model.initial import initialise
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry


def start_from_pretrained(
    plan: StagePlan, model: SkillNet, folder: StageFolder, ranks: Ranks, registry: Registry
) -> list[str]:
    """Start what the recipe's ``[init]`` names, write ``init.json``, and return the report in a few lines.

    Raises:
        UserError: as :func:`skillnet_cli.model.initial.initialise`.
    """
    report = initialise(model, plan.recipe.init, registry)
    if ranks.is_main:
        folder.path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report.document(), ensure_ascii=False, indent=1)
        write_whole(folder.init, f"{text}\n".encode())
    return [*report.lines(), f"  all of them by name: {folder.init}"]
