"""What a model's tasks have taught its skills: which can be searched, and which only through a transcript."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from skillnet_cli import objectives
from skillnet_cli.api import UserError
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.objectives import Objective, TaskConfig


def _tasks_with(config: SkillNetConfig, wanted: Callable[[type[Objective]], bool]) -> list[TaskConfig]:
    """The model's tasks with such an objective, in the order of its configuration."""
    found = []
    for task in map(config.task, config.tasks):
        with suppress(UserError):  # the plugin that brings its objective is not installed
            if wanted(objectives.load(task.objective)):
                found.append(task)
    return found


def _comparing(config: SkillNetConfig) -> list[TaskConfig]:
    return _tasks_with(config, lambda objective: objective.compares)


def _transcribing(config: SkillNetConfig) -> list[TaskConfig]:
    return _tasks_with(config, lambda objective: objective.transcribes)


def _comparable(config: SkillNetConfig) -> set[frozenset[str]]:
    """The pairs of skills whose vectors a contrastive task has put side by side, and each of them with itself."""
    pairs = [frozenset(task.skills) for task in _comparing(config)]
    return {*pairs, *(frozenset([skill]) for pair in pairs for skill in pair)}


def embeddable(config: SkillNetConfig) -> tuple[str, ...]:
    """The skills that a contrastive task of the model has trained."""
    return tuple(dict.fromkeys(skill for task in _comparing(config) for skill in task.skills))


def query_skill(config: SkillNetConfig) -> str:
    """The skill that asks: the first tower of the contrastive tasks. Raises UserError where the model has none."""
    for task in _comparing(config):
        return task.towers[0][-1]
    raise UserError("the model has no contrastive task, so its vectors cannot be searched")


def vector_task(config: SkillNetConfig) -> str | None:
    """The task whose vectors a collection holds, where each has its own; None where all tasks have the same.

    Raises:
        UserError: the model's tasks are separate, and there is not just one of them with vectors.
    """
    if config.routing != "separate":
        return None
    tasks = [task.name for task in _comparing(config)]
    if len(tasks) == 1:
        return tasks[0]
    raise UserError(
        f"the tasks of this model are separate, so {', '.join(tasks)} have no vectors in common "
        "that a collection could hold: measure each with skillnet eval, or train the one you want to search with alone"
    )


def route_of(config: SkillNetConfig, skill: str) -> str | None:
    """How items of a skill enter a collection: by ``content``, by ``transcript``, or not at all (None)."""
    if skill in embeddable(config):
        return "content"
    heard = {task.skills[0] for task in _transcribing(config)}
    return "transcript" if skill in heard and embeddable(config) else None


def transcribing_task(config: SkillNetConfig, name: str | None = None) -> TaskConfig:
    """The model's task that transcribes: the one named, or the only one.

    Raises:
        UserError: there is none, or several and none is named.
    """
    tasks = _transcribing(config)
    chosen = [task for task in tasks if name in (None, task.name)]
    if len(chosen) == 1:
        return chosen[0]
    known = ", ".join(task.name for task in tasks)
    if not known:
        raise UserError("no task of the model transcribes")
    if name is None:
        raise UserError(f"several tasks of the model transcribe ({known}): choose one with --task")
    raise UserError(f"the model has no task '{name}' that transcribes: choose one of {known} with --task")


def needed_for(config: SkillNetConfig, skills: Iterable[str]) -> tuple[list[str], list[str]]:
    """The skills and tasks of the model that putting items of ``skills`` into a collection activates.

    Raises:
        UserError: items enter by their transcripts, and no single task of the model transcribes; or its tasks are
            separate, and no single one has vectors.
    """
    routes = {skill: route_of(config, skill) for skill in skills}
    needed = [skill for skill, route in routes.items() if route == "content"]
    own = vector_task(config)
    tasks = [] if own is None else [config.task(own)]
    if "transcript" in routes.values():
        needed.append(query_skill(config))
        tasks.append(transcribing_task(config))
    every = [*needed, *(skill for task in tasks for skill in task.skills)]
    return list(dict.fromkeys(every)), [task.name for task in tasks]


def untrained_pairs(config: SkillNetConfig, skill: str, others: Iterable[str]) -> list[str]:
    """Those of ``others`` whose vectors no task has put beside those of ``skill``."""
    pairs = _comparable(config)
    return sorted({other for other in others if frozenset([skill, other]) not in pairs})
