"""Chooses, once, what a configuration asks for, and builds it from whatever plugins are installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from skillnet_cli import objectives
from skillnet_cli.api import Reader, UserError
from skillnet_cli.model.config import SkillNetConfig, task_fields
from skillnet_cli.model.encoder import Encoder, FeedForward, RoutedAttention, SkillProjection
from skillnet_cli.model.variants import ACTIVATIONS, BLOCKS
from skillnet_cli.objectives import Objective, TaskConfig
from skillnet_cli.plugins import Registry, resolve

INIT_STD = 0.02
NORM_EPS = {"pre": 1e-5, "post": 1e-12}
"""What layer norms add to the variance: CLIP's where they stand in front, BERT's where they stand behind."""


def build_readers(
    embedders: Mapping[str, Mapping[str, Any]], registry: Registry, assets: Path | None = None
) -> dict[str, Reader]:
    """The reader of every skill; with ``assets`` their files come from ``assets/SKILL``.

    Raises:
        UserError: a skill is not installed, or its configuration is not what its plugin takes.
    """
    return {skill: _reader(skill, dict(keys), registry, assets) for skill, keys in embedders.items()}


def _reader(skill: str, keys: dict[str, Any], registry: Registry, assets: Path | None) -> Reader:
    modality = registry.modality(skill)
    config = embedder_config(skill, keys, registry)
    reader: Reader = resolve(modality.reader)(config, assets / skill if assets else None)
    return reader


def embedder_config(skill: str, keys: Mapping[str, Any], registry: Registry) -> Any:
    """The keys of ``[model.embedders.SKILL]`` as the plugin's own pydantic model."""
    try:
        return resolve(registry.modality(skill).config)(**keys)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("model", "embedders", skill, *first["loc"])))
        raise UserError(f"{where}: {first['msg']}") from error


def build_config(
    sizes: Mapping[str, Any], readers: Mapping[str, Reader], tasks: Iterable[TaskConfig], registry: Registry
) -> SkillNetConfig:
    """The configuration of a model with these skills and tasks.

    Args:
        sizes: ``layers``, ``hidden``, ``heads``, ``ffn``, ``norm``, ``activation``, ``dropout``.
    """
    return config_of(sizes, {skill: reader.config for skill, reader in readers.items()}, tasks, registry)


def config_of(
    sizes: Mapping[str, Any], embedders: Mapping[str, Any], tasks: Iterable[TaskConfig], registry: Registry
) -> SkillNetConfig:
    """As :func:`build_config`, from each skill's complete configuration instead of its reader."""
    skills = {
        skill: {
            "plugin": registry.modalities[skill].plugin.distribution,
            "version": registry.modalities[skill].plugin.version,
            "embedder": embedder.model_dump(mode="json"),
        }
        for skill, embedder in embedders.items()
    }
    return SkillNetConfig(**sizes, skills=skills, tasks={task.name: task_fields(task) for task in tasks})


def build_encoder(config: SkillNetConfig) -> Encoder:
    """The shared encoder with every skill's projections. Raises UserError at sizes or variants that do not fit."""
    if config.hidden % config.heads:
        raise UserError(f"model.hidden = {config.hidden} is not divisible by model.heads = {config.heads}")
    block = _choose("norm", BLOCKS, config.norm)
    activation = _choose("activation", ACTIVATIONS, config.activation)
    blocks = [
        block(
            RoutedAttention(config.hidden, config.heads, config.skills or {}),
            FeedForward(config.hidden, config.ffn, activation),
            config.hidden,
            config.dropout,
        )
        for _ in range(config.layers)
    ]
    encoder = Encoder(blocks, nn.LayerNorm(config.hidden) if config.norm == "pre" else nn.Identity())
    _initialise(encoder, config)
    return encoder


def _choose(key: str, choices: Mapping[str, Any], name: str) -> Any:
    if name not in choices:
        raise UserError(f"model.{key} = '{name}': choose one of {', '.join(choices)}")
    return choices[name]


def _initialise(encoder: Encoder, config: SkillNetConfig) -> None:
    """Weights normal around 0 with CLIP's deviations (Radford et al. 2021), which go by the width; biases zero.

    In narrow models a fixed 0.02 adds so little to the residual stream that all sequences' [CLS] start almost equal.
    """
    width = config.hidden**-0.5
    depth = (2 * config.layers) ** -0.5
    for module in encoder.modules():
        if isinstance(module, SkillProjection):
            nn.init.normal_(module.weight, std=width)
        elif isinstance(module, RoutedAttention):
            nn.init.normal_(module.out.weight, std=width * depth)
        elif isinstance(module, FeedForward):
            nn.init.normal_(module.up.weight, std=width * 2**-0.5)
            nn.init.normal_(module.down.weight, std=width * depth)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            module.eps = NORM_EPS[config.norm]


def build_embedders(config: SkillNetConfig, registry: Registry) -> nn.ModuleDict:
    """Every skill's embedder, as its plugin defines it."""
    return nn.ModuleDict(
        {
            skill: resolve(registry.modality(skill).embedder)(
                embedder_config(skill, facts["embedder"], registry), config.hidden
            )
            for skill, facts in (config.skills or {}).items()
        }
    )


def build_objectives(config: SkillNetConfig) -> dict[str, Objective]:
    """The objective of every task."""
    tasks = [config.task(name) for name in config.tasks or {}]
    return {task.name: objectives.load(task.objective)(task) for task in tasks}


def build_heads(objectives_: Mapping[str, Objective], hidden: int) -> nn.ModuleDict:
    """The heads of all tasks, each name once."""
    makers = {name: make for objective in objectives_.values() for name, make in objective.heads(hidden).items()}
    heads = nn.ModuleDict({name: make() for name, make in makers.items()})
    for module in heads.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=INIT_STD)
            nn.init.zeros_(module.bias)
    return heads
