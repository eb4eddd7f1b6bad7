"""Starts parameters from pretrained models: what ``[init]`` of a recipe asks for, as the skills' plugins say how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skillnet_cli.api import MappedWeight, SourceCheckpoint, UserError
from skillnet_cli.model.build import embedder_config
from skillnet_cli.model.hub import Pretrained, fetch_pretrained
from skillnet_cli.model.parts import SHARED, part_of
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry, resolve
from skillnet_cli.recipe.checks import both_start_shared, misfits, read_source_checkpoint, starts_shared
from skillnet_cli.recipe.schema import InitSection


@dataclass(frozen=True)
class _Loaded:
    """A tensor of the model, and the donor's tensors that it was started from; ``resized`` had another shape."""

    tensor: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    resized: bool


@dataclass(frozen=True)
class _SkillReport:
    """What one pretrained model started: tensors loaded, and its tensors that found no place, each with the reason."""

    source: str
    folder: str
    shared: bool
    loaded: tuple[_Loaded, ...]
    skipped: Mapping[str, str]


@dataclass(frozen=True)
class InitReport:
    """All of ``[init]``: a report for each skill, and the model's tensors that were left fresh."""

    skills: Mapping[str, _SkillReport]
    fresh: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report in a line a skill and one for the rest."""
        said = [_line(skill, report) for skill, report in self.skills.items()]
        return [*said, f"  {len(self.fresh)} tensors are left fresh"]


def _line(skill: str, report: _SkillReport) -> str:
    resized = sum(each.resized for each in report.loaded)
    return (
        f"  init.{skill} from {report.source}: {len(report.loaded)} tensors loaded"
        f"{f' ({resized} resized)' if resized else ''}, {len(report.skipped)} of its own skipped"
        f"{'' if report.shared else ', shared parts left fresh'}"
    )


def initialise(model: SkillNet, sources: Mapping[str, InitSection], registry: Registry) -> InitReport:
    """Start the skills' parameters from the pretrained models that ``sources`` names.

    Raises:
        UserError: a model cannot be fetched or read, does not fit, lacks a tensor, has one of another shape, or two
            would start the shared parts.
    """
    reports, sharing = {}, ""
    for skill, section in sources.items():
        try:
            folder = fetch_pretrained(section.source)
            donor = _fitting_donor(model, folder, skill, section, registry)
            if starts_shared(donor, section.shared):
                if sharing:
                    raise UserError(both_start_shared(sharing))
                sharing = skill
            reports[skill] = _start(model, donor, folder, skill, section)
        except UserError as error:
            raise UserError(f"init.{skill}: {error}") from error
    started = {each.tensor for report in reports.values() for each in report.loaded}
    return InitReport(reports, tuple(name for name in model.state_dict() if name not in started))


def _fitting_donor(
    model: SkillNet, folder: Path, skill: str, section: InitSection, registry: Registry
) -> SourceCheckpoint:
    config = model.config
    own = embedder_config(skill, config.skills[skill]["embedder"], registry)
    donor = read_source_checkpoint(folder, skill, own, registry)
    problems = list(misfits(donor, {key: getattr(config, key) for key in donor.encoder}, section.shared))
    if problems:
        raise UserError("; ".join(problems))
    return donor


def _start(model: SkillNet, donor: SourceCheckpoint, folder: Path, skill: str, section: InitSection) -> _SkillReport:
    weights = Pretrained(folder)
    prefix = _prefix(donor, weights, folder)
    places = _places(model, skill)
    loaded, skipped = [], dict.fromkeys(weights, f"the skill {skill} has no place for it")
    for fill in donor.fills:
        sources = tuple(prefix + source for source in fill.sources)
        for name, parameter in places.get(fill.to, ()):
            if part_of(name) == SHARED and not section.shared:
                skipped |= dict.fromkeys(sources, "shared = false")
                continue
            tensor, resized = _read(weights, sources, fill, parameter, folder)
            with torch.no_grad():
                parameter.copy_(tensor)
            loaded.append(_Loaded(name, sources, tuple(parameter.shape), resized))
            for source in sources:
                skipped.pop(source, None)
    return _SkillReport(section.source, str(folder), section.shared, tuple(loaded), skipped)


def _prefix(donor: SourceCheckpoint, weights: Pretrained, folder: Path) -> str:
    """What stands before the names in this file: its writer saved the model alone or inside a larger one."""
    first = donor.fills[0].sources[0]
    for prefix in donor.prefixes:
        if prefix + first in weights:
            return prefix
    raise UserError(f"{folder} has no tensor '{first}': its weights are not those that its config.json speaks of")


def _places(model: SkillNet, skill: str) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """The model's parameters by the names that plugins use (:class:`skillnet_cli.api.MappedWeight`)."""
    places: dict[str, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        place = _place(model, name, skill)
        if place:
            places.setdefault(place, []).append((name, parameter))
    return places


def _place(model: SkillNet, name: str, skill: str) -> str | None:
    """What plugins call the parameter ``name``; None where it is not the skill's, nor of what the skill runs through.

    A projection goes by one name, whether the skill owns it, all share it, or a separate task's tower has its own.
    """
    path = name.split(".")
    if path[0] == "tasks":
        task, kind, tower = path[1:4]
        if kind != "towers" or skill not in model.task(task).towers[int(tower)]:
            return None
        path = path[4:]
    if path[0] == "embedders":
        return ".".join(["embedder", *path[2:]]) if path[1] == skill else None
    if path[0] != "encoder" or part_of(name) not in (SHARED, f"skill:{skill}", f"task:{name.split('.')[1]}"):
        return None
    if "skills" in path:
        at = path.index("skills")
        del path[at : at + 2]
    return ".".join(part for part in path if part != "qkv")


def _read(
    weights: Pretrained, sources: tuple[str, ...], fill: MappedWeight, parameter: nn.Parameter, folder: Path
) -> tuple[Tensor, bool]:
    """The tensor for a parameter, and whether it had to be fitted to its shape."""
    for source in sources:
        if source not in weights:
            raise UserError(f"{folder} has no tensor '{source}'")
    parts = [weights[source] for source in sources]
    tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
    if tensor.shape == parameter.shape:
        return tensor, False
    if fill.fit is None:
        raise UserError(
            f"{folder}: tensor '{sources[0]}' has shape {tuple(tensor.shape)}, {fill.to} wants {tuple(parameter.shape)}"
        )
    return resolve(fill.fit)(tensor, tuple(parameter.shape)), True
