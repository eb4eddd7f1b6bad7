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
from skillnet_cli.model.parts import SHARED, name_without_skill, part_of
from skillnet_cli.model.sequences import Tower
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry, resolve
from skillnet_cli.recipe.checks import both_start_shared, read_source_checkpoint
from skillnet_cli.recipe.schema import InitSection


@dataclass(frozen=True)
class _Loaded:
    """A tensor of the model, and the source's tensors that it was started from; ``resized`` had another shape."""

    tensor: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    resized: bool


@dataclass(frozen=True)
class _SkillReport:
    """What one source checkpoint started: tensors loaded, and those of its own that were skipped, with the reason."""

    source: str
    folder: str
    shared: bool
    loaded: tuple[_Loaded, ...]
    skipped: Mapping[str, str]

    def line(self, skill: str) -> str:
        resized = sum(each.resized for each in self.loaded)
        return (
            f"  init.{skill} from {self.source}: {len(self.loaded)} tensors loaded"
            f"{f' ({resized} resized)' if resized else ''}, {len(self.skipped)} of its own skipped"
            f"{'' if self.shared else ', shared parts newly initialised'}"
        )


@dataclass(frozen=True)
class InitReport:
    """All of ``[init]``: a report for each skill, and the model's tensors that nothing started."""

    skills: Mapping[str, _SkillReport]
    newly_initialised: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report in a line a skill and one for the rest."""
        lines = [report.line(skill) for skill, report in self.skills.items()]
        return [*lines, f"  {len(self.newly_initialised)} tensors are newly initialised"]


def initialise(model: SkillNet, sources: Mapping[str, InitSection], registry: Registry) -> InitReport:
    """Start the skills' parameters from the pretrained models that ``sources`` names.

    Args:
        model: changed in place.
        sources: ``[init]`` of the recipe: for each skill where its source checkpoint is.
        registry: the plugins, which map the checkpoints' tensors to the model's.

    Raises:
        UserError: a model cannot be fetched or read, does not fit, lacks a tensor, has one of another shape, or two
            would start the shared parts.
    """
    reports, sharing = {}, ""
    for skill, section in sources.items():
        try:
            folder = fetch_pretrained(section.source)
            checkpoint = _fitting_checkpoint(model, folder, skill, section, registry)
            if section.starts_shared(checkpoint):
                if sharing:
                    raise UserError(both_start_shared(sharing))
                sharing = skill
            reports[skill] = _start(model, checkpoint, folder, skill, section)
        except UserError as error:
            raise UserError(f"init.{skill}: {error}") from error
    started = {each.tensor for report in reports.values() for each in report.loaded}
    return InitReport(reports, tuple(name for name in model.state_dict() if name not in started))


def _fitting_checkpoint(
    model: SkillNet, folder: Path, skill: str, section: InitSection, registry: Registry
) -> SourceCheckpoint:
    config = model.config
    own = embedder_config(skill, config.skills[skill]["embedder"], registry)
    checkpoint = read_source_checkpoint(folder, skill, own, registry)
    problems = list(section.mismatches(checkpoint, {key: getattr(config, key) for key in checkpoint.encoder}))
    if problems:
        raise UserError("; ".join(problems))
    return checkpoint


@torch.no_grad()
def _start(
    model: SkillNet, checkpoint: SourceCheckpoint, folder: Path, skill: str, section: InitSection
) -> _SkillReport:
    weights = Pretrained(folder)
    prefix = _prefix(checkpoint, weights, folder)
    targets = _targets(model, skill)
    loaded, skipped = [], dict.fromkeys(weights, f"the skill {skill} has no place for it")
    for mapped in checkpoint.weight_map:
        sources = tuple(prefix + source for source in mapped.sources)
        for name, parameter in targets.get(mapped.to, ()):
            if part_of(name) == SHARED and not section.shared:
                skipped |= dict.fromkeys(sources, "shared = false")
                continue
            tensor, resized = _read(weights, sources, mapped, parameter, folder)
            parameter.copy_(tensor)
            loaded.append(_Loaded(name, sources, tuple(parameter.shape), resized))
            for source in sources:
                skipped.pop(source, None)
    return _SkillReport(section.source, str(folder), section.shared, tuple(loaded), skipped)


def _prefix(checkpoint: SourceCheckpoint, weights: Pretrained, folder: Path) -> str:
    """What stands before the names in this file: its writer saved the model alone or inside a larger one."""
    first = checkpoint.weight_map[0].sources[0]
    for prefix in checkpoint.prefixes:
        if prefix + first in weights:
            return prefix
    raise UserError(f"{folder} has no tensor '{first}': its weights do not match its config.json")


def _targets(model: SkillNet, skill: str) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """The parameters that a skill's tokens run through, by the names that plugins use (``MappedWeight.to``).

    A projection goes by one name, whether the skill owns it, all share it, or a separate task's tower has its own:
    hence several parameters by one name.
    """
    targets: dict[str, list[tuple[str, nn.Parameter]]] = {}
    for tower in _towers_of_skill(model, skill):
        for name, parameter in tower.named_parameters():
            name_of_plugins = name_without_skill(name, skill)
            if name_of_plugins is not None:
                targets.setdefault(name_of_plugins, []).append((tower.place + name, parameter))
    return targets


def _towers_of_skill(model: SkillNet, skill: str) -> list[Tower]:
    """The shared tower, or those of separate tasks that the skill's tokens run through."""
    if not model.tasks:
        return [model.tower]
    pairs = ((model.task(task), model.towers_of(task)) for task in model.tasks)
    return [
        tower for task, towers in pairs for skills, tower in zip(task.towers, towers, strict=True) if skill in skills
    ]


def _read(
    weights: Pretrained, sources: tuple[str, ...], mapped: MappedWeight, parameter: nn.Parameter, folder: Path
) -> tuple[Tensor, bool]:
    """The tensor for a parameter, and whether it had to be fitted to its shape."""
    for source in sources:
        if source not in weights:
            raise UserError(f"{folder} has no tensor '{source}'")
    parts = [weights[source] for source in sources]
    tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
    if tensor.shape == parameter.shape:
        return tensor, False
    if mapped.fit is None:
        raise UserError(
            f"{folder}: tensor '{sources[0]}' has shape {tuple(tensor.shape)}, but {mapped.to} has "
            f"{tuple(parameter.shape)}"
        )
    return resolve(mapped.fit)(tensor, tuple(parameter.shape)), True
