"""Models made of models: some skills and tasks of one, one with a skill more, and what differs between two.

Nothing here changes the models it starts from; a new model appears whole in its folder or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skillnet_cli.api import UserError
from skillnet_cli.model.build import build_config, build_readers
from skillnet_cli.model.card import results_of, write_card
from skillnet_cli.model.checkpoint import Weights
from skillnet_cli.model.config import SkillNetConfig, read_config
from skillnet_cli.model.device import on_meta
from skillnet_cli.model.hub import Source, find
from skillnet_cli.model.parts import SHARED, part_of
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry, require

ModelPath = str | os.PathLike[str]


def export(
    model: ModelPath, to: Path, registry: Registry, skills: Sequence[str] | None, tasks: Sequence[str] | None
) -> SkillNet:
    """Save some skills and tasks of a model as a model of its own; what it answers stays the same to the bit.

    Args:
        model: its folder, or a hub repository ``owner/name``.
        to: the folder of the result.
        registry: the installed plugins.
        skills: as in :meth:`SkillNet.from_pretrained`.
        tasks: likewise; its results on the tasks that are kept go with it.

    Raises:
        UserError: ``to`` already exists; or as :meth:`SkillNet.from_pretrained`.
    """
    must_be_new(to)
    source = find(model)
    part = SkillNet.from_pretrained(source, skills=skills, tasks=tasks, registry=registry)
    return _save(part, to, results_of(source.folder))


def graft_new(
    model: ModelPath,
    skill: str,
    to: Path,
    registry: Registry,
    *,
    like: str | None = None,
    keys: Mapping[str, Any] | None = None,
    seed: int = 1,
) -> SkillNet:
    """Give a model a new skill of an installed plugin, and save the result; everything else stays to the bit.

    Args:
        model: its folder, or a hub repository ``owner/name``.
        skill: the new one.
        to: the folder of the result.
        registry: the installed plugins.
        like: the skill whose projections the new one starts from; without it they are newly initialised, as the
            embedder always is.
        keys: those of ``[model.embedders.SKILL]`` in a recipe.
        seed: of all that is newly initialised.

    Raises:
        UserError: ``to`` already exists, the model already has the skill or lacks ``like``, or no plugin brings it.
    """
    must_be_new(to)
    base = SkillNet.from_pretrained(model, registry=registry)
    _must_lack(base.config, skill, model)
    if like is not None:
        require("skill", like, base.config.skills, f"the model in {os.fspath(model)}")
    readers = {**base.readers, **build_readers({skill: keys or {}}, registry)}
    facts = build_config({}, {skill: readers[skill]}, (), registry).skills
    config = _with(base.config, facts or {}, {})
    torch.manual_seed(seed)
    grown = SkillNet(config, registry)
    tensors = dict(base.state_dict())
    if like is not None:
        tensors |= _copied(grown, f"skill:{like}", f"skill:{skill}", tensors)
    _fill(grown, tensors, os.fspath(model))
    grown.readers = readers
    return _save(grown.eval(), to, results_of(find(model).folder))


def graft_from(
    model: ModelPath, skill: str, other: ModelPath, to: Path, registry: Registry, tasks: Sequence[str] | None = None
) -> SkillNet:
    """Give a model a skill, and tasks with it, of another model with the same shared part, and save the result.

    Args:
        model: its folder, or a hub repository ``owner/name``.
        skill: the one to take.
        other: the model that has it.
        to: the folder of the result.
        registry: the installed plugins.
        tasks: which of the other's tasks to take; by default all that activate the skill and whose other skills the
            model has. What such a task uses of both models must be the same in both.

    Raises:
        UserError: ``to`` already exists, the model has the skill, the other lacks it or a task; or something that
            both have and that is needed differs: the line names the first tensor that does.
    """
    must_be_new(to)
    base = SkillNet.from_pretrained(model, registry=registry)
    _must_lack(base.config, skill, model)
    place = f"the model in {os.fspath(other)}"
    theirs = read_config(find(other).folder, registry)
    require("skill", skill, theirs.skills, place)
    for task in tasks or ():
        require("task", task, theirs.tasks, place)
    taken = _tasks_with(theirs, skill, base.config) if tasks is None else list(tasks)
    given = SkillNet.from_pretrained(other, registry=registry, tasks=taken, skills=_skills_of(theirs, taken, skill))
    parts = {SHARED, f"skill:{skill}", f"embedder:{skill}"}.union(*(given.activated_parts(task) for task in taken))
    _must_agree(base, given, parts, os.fspath(model), os.fspath(other))
    skills = {skill: given.config.skills[skill]}
    config = _with(base.config, skills, {task: given.config.tasks[task] for task in taken})
    with on_meta():
        grown = SkillNet(config, registry)
    _fill(grown, {**given.state_dict(), **base.state_dict()}, os.fspath(model))
    grown.readers = {**base.readers, skill: given.readers[skill]}
    return _save(grown.eval(), to, [*results_of(find(other).folder), *results_of(find(model).folder)])


@dataclass(frozen=True)
class Difference:
    """How a part of one model differs from that of another.

    Attributes:
        tensors: how many tensors the part has in both together; ``equal`` of them are the same to the bit.
        largest: the largest absolute difference of two numbers, over tensors of one shape; 0.0 if none differ.
        shapes: tensor -> its two shapes, where these are not one.
        only: tensor -> ``"first"`` or ``"second"``, where one model alone has it.
    """

    part: str
    tensors: int
    equal: int
    largest: float
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    only: Mapping[str, str]


def diff(first: ModelPath, second: ModelPath) -> list[Difference]:
    """What differs between two models, part by part; no plugin is needed. Raises UserError where one cannot be read."""
    one, two = (_weights(each) for each in (first, second))
    names = sorted({*one.files, *two.files}, key=lambda name: (part_of(name) != SHARED, part_of(name), name))
    parts = dict.fromkeys(map(part_of, names))
    return [_difference(part, [name for name in names if part_of(name) == part], one, two) for part in parts]


def describe_skills(model: ModelPath, registry: Registry) -> list[dict[str, Any]]:
    """What a saved model knows of its skills: plugin, version, whether it is installed, parameters, tasks.

    Raises:
        UserError: the model cannot be read.
    """
    folder = _whole(model).folder
    config, parameters = read_config(folder, registry), Weights.open(folder).parameters_by_part()
    tasks = [config.task(name) for name in config.tasks]
    return [
        {
            "skill": skill,
            "plugin": facts["plugin"],
            "version": facts["version"],
            "installed": registry.modalities[skill].plugin.version if skill in registry.modalities else None,
            "projections": parameters.get(f"skill:{skill}", 0),
            "embedder": parameters.get(f"embedder:{skill}", 0),
            "tasks": [task.name for task in tasks if skill in task.skills],
        }
        for skill, facts in config.skills.items()
    ]


def must_be_new(to: Path) -> None:
    """Raises UserError where there is something at ``to`` already."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} already exists: choose another folder")


def _save(model: SkillNet, to: Path, results: Iterable[Mapping[str, Any]]) -> SkillNet:
    to.absolute().parent.mkdir(parents=True, exist_ok=True)
    model.save(to)
    write_card(to, results)
    return model


def _must_lack(config: SkillNetConfig, skill: str, model: ModelPath) -> None:
    if skill in config.skills:
        raise UserError(f"the model in {os.fspath(model)} already has the skill '{skill}'")


def _with(config: SkillNetConfig, skills: Mapping[str, Any], tasks: Mapping[str, Any]) -> SkillNetConfig:
    """The configuration with skills and tasks more."""
    facts = {key: value for key, value in config.to_dict().items() if key not in ("skills", "tasks")}
    return SkillNetConfig(**facts, skills={**config.skills, **skills}, tasks={**config.tasks, **tasks})


def _copied(model: SkillNet, source: str, target: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one part under the names that they have in another; both are built alike, in the same order."""
    old, new = ([name for name in model.state_dict() if part_of(name) == part] for part in (source, target))
    return {target_name: tensors[name].clone() for name, target_name in zip(old, new, strict=True)}


def _fill(model: SkillNet, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put all the tensors that there are in place. Raises UserError where one does not fit."""
    own = model.state_dict()
    for name, tensor in tensors.items():
        if name in own and own[name].shape != tensor.shape:
            raise UserError(
                f"{source}: tensor '{name}' has shape {tuple(tensor.shape)}, with the new skill it would need "
                f"{tuple(own[name].shape)}"
            )
    model.load_state_dict({name: tensor for name, tensor in tensors.items() if name in own}, strict=False, assign=True)


def _tasks_with(config: SkillNetConfig, skill: str, base: SkillNetConfig) -> list[str]:
    """The tasks that activate ``skill`` and otherwise only skills of ``base``, and that ``base`` does not have."""
    known = {skill, *base.skills}
    tasks = [config.task(name) for name in config.tasks if name not in base.tasks]
    return [task.name for task in tasks if skill in task.skills and known.issuperset(task.skills)]


def _skills_of(config: SkillNetConfig, tasks: Iterable[str], skill: str) -> list[str]:
    return list(dict.fromkeys([skill, *(each for task in tasks for each in config.task(task).skills)]))


def _must_agree(base: SkillNet, given: SkillNet, parts: set[str], first: str, second: str) -> None:
    """Raises UserError, with the first tensor that differs, where parts that both models have are not the same."""
    settings = given.config.encoder_settings()
    for key, one in base.config.encoder_settings().items():
        if one != (two := settings[key]):
            raise UserError(f"the models do not fit: {key} is {one} in {first} and {two} in {second}")
    own = base.state_dict()
    for name, tensor in given.state_dict().items():
        if part_of(name) in parts and name in own and not _same(own[name], tensor):
            raise UserError(
                f"part '{part_of(name)}' is not the same in {first} and {second}: tensor '{name}' is the first "
                "that differs"
            )


def _same(one: Tensor, two: Tensor) -> bool:
    return one.dtype == two.dtype and one.shape == two.shape and torch.equal(one, two)


def _weights(model: ModelPath) -> Weights:
    return Weights.open(_whole(model).folder)


def _whole(model: ModelPath) -> Source:
    """The model with all its files of weights on this machine."""
    source = find(model)
    source.fetch_weights(sorted(set(Weights.open(source.folder).files.values())), ())
    return source


def _difference(part: str, names: Sequence[str], one: Weights, two: Weights) -> Difference:
    both = [name for name in names if name in one.files and name in two.files]
    only = {name: "first" if name in one.files else "second" for name in names if name not in both}
    first, second = one.read(both), two.read(both)
    shapes = {name: (tuple(first[name].shape), tuple(second[name].shape)) for name in both}
    apart = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    largest = [float((first[name].double() - second[name].double()).abs().max()) for name in both
               if name not in apart and not torch.equal(first[name], second[name])]  # fmt: skip
    equal = sum(_same(first[name], second[name]) for name in both)
    return Difference(part, len(names), equal, max(largest, default=0.0), apart, only)
