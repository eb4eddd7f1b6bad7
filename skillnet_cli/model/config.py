"""The configuration of a SkillNet, its ``config.json``: read, checked, and cut down to some skills and tasks."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar, no_type_check

from pydantic import BaseModel, PositiveInt, TypeAdapter, ValidationError
from transformers import PretrainedConfig

from skillnet_cli import objectives
from skillnet_cli.api import UserError
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import Registry, suggest


@no_type_check  # transformers makes its configurations dataclasses that take more than their fields
class SkillNetConfig(PretrainedConfig):
    """Sizes and variants of the encoder, the skills and the tasks.

    Attributes:
        layers, hidden, heads, ffn: the encoder's sizes (paper: 12, 768, 12, 3072).
        norm: ``"pre"`` (CLIP) or ``"post"`` (BERT).
        activation: ``"quick_gelu"`` or ``"gelu"``.
        similarity: of two vectors: ``"cosine"``, for which they are made one long, or ``"dot"`` (paper §3.2).
        dropout: on the outputs of attention and feed-forward network, in training.
        routing: ``"skill"`` (the paper's SkillNet), or a system it is compared with: ``"dense"``, ``"moe"``,
            ``"separate"``.
        routed: with ``"skill"``: which modules every skill owns, ``"qkv"`` and more.
        balance: with ``"moe"``: the weight of the balance loss.
        experts: with ``"moe"``: how many feed-forward networks a layer has.
        skills: skill -> ``{"plugin": distribution, "version": …, "embedder": the embedder's configuration}``.
        tasks: task -> the fields of :class:`skillnet_cli.objectives.TaskConfig`.
    """

    model_type: ClassVar[str] = "skillnet"

    layers: int = 12
    hidden: int = 768
    heads: int = 12
    ffn: int = 3072
    norm: str = "pre"
    activation: str = "quick_gelu"
    similarity: str = "cosine"
    dropout: float = 0.0
    routing: str = "skill"
    routed: list[str] | tuple[str, ...] = ("qkv",)
    balance: float = 0.01
    experts: int = 0
    skills: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)

    def encoder_settings(self) -> dict[str, Any]:
        """All that says how an encoder computes: two models of equal settings and weights give the same vectors."""
        keys = sorted(type(self).__annotations__.keys() - _NOT_OF_THE_ENCODER)
        return {key: getattr(self, key) for key in keys} | {"routed": list(self.routed)}

    def task(self, name: str) -> TaskConfig:
        """A task of this model. Raises KeyError where it has none of that name."""
        fields = dict(self.tasks[name])
        fields["towers"] = tuple(tuple(tower) for tower in fields["towers"])
        for key in ("metrics", "labels", "datasets"):
            fields[key] = tuple(fields[key])
        return TaskConfig(**fields)


_NOT_OF_THE_ENCODER = {"model_type", "skills", "tasks", "dropout", "balance"}
"""What says which model it is, and what matters in training alone."""


class _SkillFacts(BaseModel):
    plugin: str
    version: str
    embedder: dict[str, Any]


class _TaskFacts(BaseModel):
    name: str
    towers: list[list[str]]
    objective: str
    target: str | None
    metrics: list[str]
    labels: list[str]
    datasets: list[str]


class _Facts(BaseModel):
    layers: PositiveInt
    hidden: PositiveInt
    heads: PositiveInt
    ffn: PositiveInt
    skills: dict[str, _SkillFacts]
    tasks: dict[str, _TaskFacts]


_FACTS = TypeAdapter(_Facts)


def read_config(folder: Path, registry: Registry) -> SkillNetConfig:
    """The configuration of a saved model, checked against the plugins of ``registry``.

    Raises:
        UserError: there is none, it is not one of a SkillNet, or it names code that no plugin brings.
    """
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "description" / "config.json").is_file():
            raise UserError(
                f"{folder}: a checkpoint of a training: skillnet export --checkpoint {folder} --to DIR first"
            )
        raise UserError(f"{folder}: not a model: config.json is missing")
    try:
        stated = json.loads(path.read_text(encoding="utf-8")).get("model_type")
        config: SkillNetConfig = SkillNetConfig.from_pretrained(folder)
    except Exception as error:  # transformers raises whatever its own code stumbles over
        raise UserError(f"{path}: damaged: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
    if not config.skills or stated != SkillNetConfig.model_type:
        lack = f"its model_type is {stated!r}" if config.skills else "it has no skills"
        raise UserError(f"{path}: this is not a SkillNet's configuration ({lack})")
    check_config(config, path, registry)
    return config


def check_config(config: SkillNetConfig, path: Path, registry: Registry) -> None:
    """Raises UserError, naming file and key, where a value is of no use, or names code that no plugin brings."""
    facts = {key: getattr(config, key) for key in _Facts.model_fields}
    try:
        checked = _FACTS.validate_python(facts)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    for name, task in checked.tasks.items():
        for skill in dict.fromkeys(skill for tower in task.towers for skill in tower):
            if skill not in checked.skills:
                raise UserError(f"{path}: tasks.{name}: it needs the skill '{skill}', which the model does not have")
        _check_code(name, task, path, registry)


def _check_code(name: str, task: _TaskFacts, path: Path, registry: Registry) -> None:
    """A task that lacks a skill's plugin may lack its objective's too, and is not refused before it is asked for."""
    if not all(skill in registry.modalities for tower in task.towers for skill in tower):
        return
    key = "objective"
    try:
        objectives.check(task.objective, registry)
        key = "metrics"
        for metric in filter(lambda metric: ":" in metric, task.metrics):
            registry.check_brought("metric", metric)
    except UserError as error:
        raise UserError(f"{path}: tasks.{name}.{key}: {error}") from error


def cut_down(
    config: SkillNetConfig, skills: Sequence[str] | None, tasks: Sequence[str] | None, source: str
) -> SkillNetConfig:
    """The configuration with some of its skills and tasks only.

    Without ``skills`` it keeps those that ``tasks`` activate; without ``tasks``, all tasks whose skills it keeps;
    without either, everything.

    Raises:
        UserError: the model in ``source`` has no such skill or task, or a task needs a skill that is not among them.
    """
    own_tasks = config.tasks
    for kind, wanted, known in (("skill", skills, config.skills), ("task", tasks, own_tasks)):
        for name in wanted or ():
            require(kind, name, known, f"the model in {source}")
    needed = {task: config.task(task).skills for task in own_tasks}
    if skills is None:
        skills = list(config.skills) if tasks is None else [skill for task in tasks for skill in needed[task]]
    if tasks is None:
        tasks = [task for task, own in needed.items() if set(own) <= set(skills)]
    for task in tasks:
        for skill in needed[task]:
            if skill not in skills:
                raise UserError(f"task '{task}' needs the skill '{skill}', which is not among {', '.join(skills)}")
    smaller = copy.deepcopy(config)
    smaller.skills = {skill: facts for skill, facts in config.skills.items() if skill in skills}
    smaller.tasks = {task: facts for task, facts in own_tasks.items() if task in tasks}
    return smaller


def require(kind: str, name: str, known: Collection[str], model: str) -> None:
    """Raises UserError where ``model`` lacks a skill or task, with the nearest name or all that it has."""
    if name not in known:
        hint = suggest(name, known, f"it has {', '.join(known) or 'none'}")
        raise UserError(f"{model} has no {kind} '{name}'{hint}")
