"""Where the tasks of a separate model start: each from the pretraining of its own modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skillnet_cli.engine.plan import StagePlan
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig


def ancestors(plan: StagePlan) -> dict[str, str]:
    """For each fine-tuning task of a separate model, the pretraining task whose Transformers it starts from.

    That is the first in the recipe that has the same skills, and for every tower of the task a tower that reads the
    tower's skills: ``code-mlm``, which reads text and code in one tower, for both towers of ``t2c``. A task that is
    pretrained itself goes on from itself; one without such a task starts fresh. No other model needs any of this: its
    tasks share what was pretrained.
    """
    pretrain = plan.recipe.pretrain
    if plan.config.routing != "separate" or pretrain is None or getattr(plan.stage, "init", None) != "pretrain":
        return {}
    earlier = [plan.config.task(name) for name in pretrain.tasks]
    found = {}
    for name in (name for name in plan.tasks if name not in pretrain.tasks):
        fitting = [other.name for other in earlier if _fits(plan.config.task(name), other)]
        found.update({name: fitting[0]} if fitting else {})
    return found


def _fits(task: TaskConfig, other: TaskConfig) -> bool:
    places = [tower_for(skills, other) for skills in task.towers]
    return set(task.skills) == set(other.skills) and None not in places


def tower_for(skills: Sequence[str], task: TaskConfig) -> int | None:
    """The place of a task's first tower that reads all of ``skills``, or None."""
    return next((place for place, tower in enumerate(task.towers) if set(skills) <= set(tower)), None)


def inherit(model: SkillNet, ancestors_: Mapping[str, str]) -> None:
    """Copy the Transformers of pretraining tasks, embedders included, to the tasks that start from them."""
    for name, ancestor in ancestors_.items():
        theirs = model.towers_of(ancestor)
        for skills, tower in zip(model.task(name).towers, model.towers_of(name), strict=True):
            source = theirs[tower_for(skills, model.task(ancestor)) or 0]
            tower.encoder.load_state_dict(source.encoder.state_dict())
            for skill in skills:
                tower.embedders[skill].load_state_dict(source.embedders[skill].state_dict())
