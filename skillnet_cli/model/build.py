"""Chooses, once, what a configuration asks for, and builds it from whatever plugins are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from skillnet_cli import objectives
from skillnet_cli.api import Reader, UserError
from skillnet_cli.model.config import SkillNetConfig, task_fields
from skillnet_cli.model.encoder import Block, Encoder, FeedForward, RoutedAttention, SkillProjection
from skillnet_cli.model.variants import (
    TOP,
    DenseAttention,
    MixtureBlock,
    MixtureEncoder,
    MixtureOfExperts,
    MultiwayAttention,
    MultiwayBlock,
    MultiwayEncoder,
    PostNormBlock,
    PostNormMixtureBlock,
    PostNormMultiwayBlock,
    SharedProjectionAttention,
    TaskNetwork,
    Tower,
    give_to_skills,
    quick_gelu,
)
from skillnet_cli.objectives import Objective, TaskConfig
from skillnet_cli.objectives.contrastive import SIMILARITIES
from skillnet_cli.plugins import Registry, resolve

INIT_STD = 0.02
NORM_EPS = {"pre": 1e-5, "post": 1e-12}
"""What layer norms add to the variance: CLIP's where they stand in front, BERT's where they stand behind."""
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class _Form(NamedTuple):
    """An encoder and its layers, by where their norms stand."""

    encoder: type[Encoder]
    pre: type[Block]
    post: type[Block]


PLAIN = _Form(Encoder, Block, PostNormBlock)
MULTIWAY = _Form(MultiwayEncoder, MultiwayBlock, PostNormMultiwayBlock)
MIXTURE = _Form(MixtureEncoder, MixtureBlock, PostNormMixtureBlock)
CHOICES = {
    "norm": ("pre", "post"),
    "activation": tuple(ACTIVATIONS),
    "similarity": SIMILARITIES,
    "routing": ("skill", "dense", "moe", "separate"),
    "routed": ("qkv", "out", "ffn", "norm"),
}


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
        sizes: ``layers``, ``hidden``, ``heads``, ``ffn``, ``norm``, ``activation``, ``dropout``, and where they are
            not the usual, ``similarity``, ``routing``, ``routed`` and ``balance``.
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
    experts = len(skills) if sizes.get("routing") == "moe" else 0
    known = {task.name: task_fields(task) for task in tasks}
    return SkillNetConfig(**sizes, experts=experts, skills=skills, tasks=known)


def build_encoder(config: SkillNetConfig) -> Encoder:
    """An encoder as ``routing`` and ``norm`` have it. Raises UserError at sizes or variants that do not fit."""
    if config.hidden % config.heads:
        raise UserError(f"model.hidden = {config.hidden} is not divisible by model.heads = {config.heads}")
    _check_choices(config)
    form = MIXTURE if config.routing == "moe" else MULTIWAY if _is_multiway(config) else PLAIN
    block = form.pre if config.norm == "pre" else form.post
    layers = [
        block(_attention(config), _feed_forward(config), config.hidden, config.dropout) for _ in range(config.layers)
    ]
    encoder = form.encoder(layers, nn.LayerNorm(config.hidden) if config.norm == "pre" else nn.Identity())
    if _is_multiway(config):
        give_to_skills(encoder, config.routed, config.skills or {}, config.hidden, lambda: _plain_feed_forward(config))
    _initialise(encoder, config)
    return encoder


def _check_choices(config: SkillNetConfig) -> None:
    for key, choices in CHOICES.items():
        value = getattr(config, key)
        for name in [value] if isinstance(value, str) else value:
            if name not in choices:
                raise UserError(f"model.{key} = '{name}': choose one of {', '.join(choices)}")


def _is_multiway(config: SkillNetConfig) -> bool:
    """Whether skills own anything else than their Q/K/V projections."""
    return config.routing == "skill" and set(config.routed) != {"qkv"}


def _attention(config: SkillNetConfig) -> RoutedAttention:
    if config.routing != "skill":
        return DenseAttention(config.hidden, config.heads)
    if "qkv" not in config.routed:
        return SharedProjectionAttention(config.hidden, config.heads)
    attention = RoutedAttention if "out" not in config.routed else MultiwayAttention
    return attention(config.hidden, config.heads, config.skills or {})


def _feed_forward(config: SkillNetConfig) -> nn.Module:
    if config.routing != "moe":
        return _plain_feed_forward(config)
    if config.experts < TOP:
        raise UserError(f"model.routing = 'moe' has an expert for each skill and needs {TOP}; the model has one skill")
    return MixtureOfExperts((_plain_feed_forward(config) for _ in range(config.experts)), config.hidden)


def _plain_feed_forward(config: SkillNetConfig) -> FeedForward:
    return FeedForward(config.hidden, config.ffn, ACTIVATIONS[config.activation])


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
            for linear in module.out.modules():
                if isinstance(linear, nn.Linear):
                    nn.init.normal_(linear.weight, std=width * depth)
        elif isinstance(module, FeedForward):
            nn.init.normal_(module.up.weight, std=width * 2**-0.5)
            nn.init.normal_(module.down.weight, std=width * depth)
        elif isinstance(module, MixtureOfExperts):
            nn.init.normal_(module.gate.weight, std=width)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            module.eps = NORM_EPS[config.norm]


def build_embedders(config: SkillNetConfig, registry: Registry, skills: Iterable[str] | None = None) -> nn.ModuleDict:
    """The embedder of each of ``skills``, of all of the model's by default, as its plugin defines it."""
    known = config.skills or {}
    return nn.ModuleDict({skill: _embedder(skill, config, registry) for skill in (known if skills is None else skills)})


def _embedder(skill: str, config: SkillNetConfig, registry: Registry) -> nn.Module:
    keys = embedder_config(skill, (config.skills or {})[skill]["embedder"], registry)
    embedder: nn.Module = resolve(registry.modality(skill).embedder)(keys, config.hidden)
    return embedder


def build_objectives(config: SkillNetConfig, registry: Registry) -> dict[str, Objective]:
    """The objective of every task. Raises UserError where no plugin brings one."""
    tasks = [config.task(name) for name in config.tasks or {}]
    return {task.name: objectives.load(task.objective, registry)(task, config.similarity) for task in tasks}


def build_heads(objectives_: Mapping[str, Objective], hidden: int) -> nn.ModuleDict:
    """The heads of all tasks, each name once."""
    makers = {name: make for objective in objectives_.values() for name, make in objective.heads(hidden).items()}
    heads = nn.ModuleDict({name: make() for name, make in makers.items()})
    for module in heads.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=INIT_STD)
            nn.init.zeros_(module.bias)
    return heads


def build_networks(
    config: SkillNetConfig, objectives_: Mapping[str, Objective], registry: Registry
) -> dict[str, TaskNetwork]:
    """For ``routing = "separate"``: every task's own embedders, encoders and heads."""
    return {name: _network(config, name, objective, registry) for name, objective in objectives_.items()}


def _network(config: SkillNetConfig, name: str, objective: Objective, registry: Registry) -> TaskNetwork:
    towers = [
        Tower(build_embedders(config, registry, dict.fromkeys(skills)), build_encoder(config))
        for skills in objective.task.towers
    ]
    return TaskNetwork(towers, build_heads({name: objective}, config.hidden))
