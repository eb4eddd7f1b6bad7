"""The configuration of a SkillNet, its ``config.json``: read, checked, and cut down to some skills and tasks."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, no_type_check

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import nn
from transformers import PretrainedConfig

from skillnet_cli import objectives
from skillnet_cli.api import UserError, wrong_pairs
from skillnet_cli.model.checkpoint import CONFIG, INDEX, config_digest, digest_of_json
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import Registry, require
from skillnet_cli.recipe.errors import check_section
from skillnet_cli.recipe.schema import EncoderSection
from skillnet_cli.untrusted import Untrusted, read_json


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
        for key in ("metrics", "labels", "datasets", "pairs"):
            fields[key] = tuple(fields.get(key, ()))
        return TaskConfig(**fields)


_NOT_OF_THE_ENCODER = {"model_type", "skills", "tasks", "dropout", "balance"}
"""What says which model it is, and what matters in training alone."""


_MAX_BYTES = 64 << 20
"""The largest ``config.json``: a million labels fit in."""
_MAX_BLOCKS = 20_000
"""The most projections and feed-forward networks of all layers, skills, experts and tasks; the paper has 72."""


def _check_name(name: str) -> str:
    """Names of skills and tasks become modules, files and folders, and are shown."""
    if not re.fullmatch(r"[^\W_][\w+-]{0,99}", name) or hasattr(nn.ModuleDict, name):
        raise ValueError(
            f"the name {name[:100]!r} must be letters, digits, '-', '_' and '+', and no word of torch's own"
        )
    return name


_Name = Annotated[str, AfterValidator(_check_name)]
_Word = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""The name of something that is looked up: of a set, a field, a metric, an objective."""
_Label = Annotated[str, Field(max_length=10_000)]


def _at_most(most: int, least: int = 0) -> Any:
    """A list of so many; or a tuple, as configurations that are made here have them."""
    return Field(min_length=least, max_length=most, strict=False)


_Tower = Annotated[list[_Name], _at_most(16, least=1)]


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _SkillFacts(_Facts):
    plugin: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]
    version: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9.!+_-]+$")]
    embedder: dict[str, Any]


class _TaskFacts(_Facts):
    """A task's row, as :class:`skillnet_cli.objectives.TaskConfig` has it."""

    name: _Name
    towers: Annotated[list[_Tower], _at_most(8, least=1)]
    objective: _Word
    target: _Word | None = None
    metrics: Annotated[list[_Word], _at_most(100)] = []
    labels: Annotated[list[_Label], _at_most(1_000_000)] = []
    datasets: Annotated[list[_Word], _at_most(1_000)] = []
    pairs: Annotated[list[_Name], _at_most(16)] = []

    @field_validator("metrics", "labels", "datasets", "pairs")
    @classmethod
    def _each_once(cls, values: list[str]) -> list[str]:
        if len(set(values)) < len(values):
            twice = next(value for value, count in Counter(values).items() if count > 1)
            raise ValueError(f"{twice[:100]!r} comes twice")
        return values


class _ConfigFile(EncoderSection):
    """What is ours in a ``config.json``."""

    model_type: Literal["skillnet"]
    experts: Annotated[int, Field(ge=0, le=1_024)] = 0
    skills: Annotated[dict[_Name, _SkillFacts], Field(min_length=1, max_length=256)]
    tasks: Annotated[dict[_Name, _TaskFacts], Field(max_length=1_000)]

    @model_validator(mode="after")
    def _fits_together(self) -> _ConfigFile:
        for name, task in self.tasks.items():
            if task.name != name:
                raise ValueError(f"tasks.{name}: its name is '{task.name}'")
            for skill in dict.fromkeys(skill for tower in task.towers for skill in tower):
                if skill not in self.skills:
                    raise ValueError(f"tasks.{name}: it needs the skill '{skill}', which the model does not have")
            if wrong := wrong_pairs(task.towers, task.pairs):
                raise ValueError(f"tasks.{name}: {wrong}")
        if self.routing == "moe" and self.experts < 2:
            raise ValueError(f"experts: a mixture (routing = 'moe') has 2 at least, not {self.experts}")
        if self.routing != "moe" and self.experts:
            raise ValueError(f"experts: is for routing = 'moe', and routing is '{self.routing}'")
        networks = sum(len(task.towers) for task in self.tasks.values()) if self.routing == "separate" else 1
        if (blocks := self.layers * networks * (len(self.skills) + 1 + self.experts)) > _MAX_BLOCKS:
            raise ValueError(f"layers, skills, experts and tasks make {blocks:,} blocks, more than {_MAX_BLOCKS:,}")
        return self


_TRANSFORMERS = {*PretrainedConfig().to_dict(), "_name_or_path", "dtype", "torch_dtype"} - {"model_type"}
"""Keys that transformers writes into every configuration. They mean nothing to us, and are not read."""


def read_config(folder: Path, registry: Registry) -> SkillNetConfig:
    """The configuration of a saved model, checked against the plugins of ``registry``.

    Raises:
        UserError: there is none, it is not one of a SkillNet or not the one that was saved with the weights, or it
            names code that no plugin brings.
    """
    path = folder / CONFIG
    document = _read(folder)
    config = _checked(document, path, registry)
    if config_digest(folder) not in (None, _digest(document)):
        raise UserError(
            f"{path}: altered since the model was saved: its checksum is not that of {INDEX}. To open it all the same, "
            "delete the entry 'config' there"
        )
    return config


def saved_config(folder: Path) -> SkillNetConfig:
    """The configuration in a folder whose model has been written or checked before."""
    return SkillNetConfig(**_file(_read(folder), folder / CONFIG).model_dump(exclude={"model_type"}))


def _read(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        if (folder / "description" / CONFIG).is_file():
            raise UserError(
                f"{folder}: a checkpoint of a training: skillnet export --checkpoint {folder} --to DIR first"
            )
        raise UserError(f"{folder}: not a model: {CONFIG} is missing")
    try:
        document = read_json(path, _MAX_BYTES)
    except (OSError, Untrusted) as error:
        raise UserError(f"{path}: damaged: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(document, dict) or document.get("model_type") != SkillNetConfig.model_type:
        stated = document.get("model_type") if isinstance(document, dict) else None
        raise UserError(f"{path}: this is not a SkillNet's configuration (its model_type is {str(stated)[:100]!r})")
    return document


def settings_digest(folder: Path) -> str:
    """The checksum of what is ours in a folder's ``config.json``."""
    return _digest(_read(folder))


def _digest(document: Mapping[str, Any]) -> str:
    return digest_of_json(_own(document))


def _own(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in _TRANSFORMERS}


def check_config(config: SkillNetConfig, path: Path, registry: Registry) -> None:
    """Raises UserError, naming file and key, where a value is of no use, or names code that no plugin brings."""
    _checked({key: getattr(config, key) for key in _ConfigFile.model_fields}, path, registry)


def _checked(document: Mapping[str, Any], path: Path, registry: Registry) -> SkillNetConfig:
    checked = _file(document, path)
    for name, task in checked.tasks.items():
        _check_code(name, task, path, registry)
    return SkillNetConfig(**checked.model_dump(exclude={"model_type"}))


def _file(document: Mapping[str, Any], path: Path) -> _ConfigFile:
    own = _own(document)
    for mistake in check_section(_ConfigFile, own):
        key = ".".join(str(each)[:100] for each in mistake.path if each != "[key]")
        raise UserError(": ".join(filter(None, (str(path), " ".join(key.split()), mistake.text))))
    return _ConfigFile.model_validate(own)


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
