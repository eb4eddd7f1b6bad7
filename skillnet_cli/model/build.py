"""Chooses, once, what a configuration asks for, and builds it from whatever plugins are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from skillnet_cli.api import Reader, UserError
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.encoder import Block, Encoder, FeedForward, RoutedAttention, SkillProjection
from skillnet_cli.model.sequences import Tower
from skillnet_cli.model.variants import TOP, MixtureOfExperts, PerSkill, TaskNetwork
from skillnet_cli.objectives import Objective, TaskConfig
from skillnet_cli.objectives.contrastive import SIMILARITIES
from skillnet_cli.plugins import Registry, resolve
from skillnet_cli.recipe.errors import check_table, parse_table

INIT_STD = 0.02
"""The deviation of heads' first weights: BERT's (Devlin et al. 2018)."""
NORM_EPS = {"pre": 1e-5, "post": 1e-12}
"""What layer norms add to the variance: CLIP's where they stand in front, BERT's where they stand behind."""


def _quick_gelu(x: Tensor) -> Tensor:
    """CLIP's approximation of gelu, x · sigmoid(1.702 x), by way of silu: one fused operation and two products."""
    return F.silu(1.702 * x) / 1.702


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": _quick_gelu, "gelu": F.gelu}


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
    """The keys of ``[model.embedders.SKILL]`` as the plugin's own pydantic model.

    Raises:
        UserError: a key is wrong.
    """
    schema = resolve(registry.modality(skill).config)
    for mistake in check_table(schema, keys, ("model", "embedders", skill)):
        raise UserError(f"{'.'.join(map(str, mistake.path))}: {mistake.text}")
    return parse_table(schema, keys)


def build_config(
    sizes: Mapping[str, Any], readers: Mapping[str, Reader], tasks: Iterable[TaskConfig], registry: Registry
) -> SkillNetConfig:
    """The configuration of a model whose skills are read so; arguments are those of :func:`config_of`."""
    return config_of(sizes, {skill: reader.config for skill, reader in readers.items()}, tasks, registry)


def config_of(
    sizes: Mapping[str, Any], embedders: Mapping[str, Any], tasks: Iterable[TaskConfig], registry: Registry
) -> SkillNetConfig:
    """The configuration of a model with these skills and tasks.

    Args:
        sizes: ``layers``, ``hidden``, ``heads``, ``ffn``, ``norm``, ``activation``, ``dropout``, and where they are
            not the usual, ``similarity``, ``routing``, ``routed`` and ``balance``.
        embedders: for each skill the complete configuration of its embedder, completed by what its assets say.
        tasks: the model's tasks.
        registry: the plugins, whose names and versions the configuration records.
    """
    skills = {
        skill: {
            "plugin": registry.modalities[skill].plugin.distribution,
            "version": registry.modalities[skill].plugin.version,
            "embedder": embedder.model_dump(mode="json"),
        }
        for skill, embedder in embedders.items()
    }
    experts = len(skills) if sizes.get("routing") == "moe" else 0
    return SkillNetConfig(**sizes, experts=experts, skills=skills, tasks={task.name: asdict(task) for task in tasks})


def build_encoder(config: SkillNetConfig) -> Encoder:
    """An encoder as ``routing`` and ``norm`` have it. Raises UserError at sizes or variants that do not fit."""
    if config.hidden % config.heads:
        raise UserError(f"model.hidden = {config.hidden} is not divisible by model.heads = {config.heads}")
    _check_choices(config)
    norm_first = config.norm == "pre"
    # Attention, then feed-forward network, layer by layer, and only then what skills own beside their projections:
    # seeds give the same first weights only in this order.
    blocks = [
        Block(_attention(config), _feed_forward(config), config.hidden, config.dropout, norm_first)
        for _ in range(config.layers)
    ]
    encoder = Encoder(blocks, config.hidden, norm_first)
    if config.routing == "skill":
        for block in blocks:
            _give_to_skills(block, config)
        if norm_first and "norm" in config.routed:
            encoder.final_norm = PerSkill(config.skills, lambda: nn.LayerNorm(config.hidden))
    _initialise(encoder, config)
    return encoder


def _check_choices(config: SkillNetConfig) -> None:
    for key, choices in CHOICES.items():
        value = getattr(config, key)
        for name in [value] if isinstance(value, str) else value:
            if name not in choices:
                raise UserError(f"model.{key} = '{name}': choose one of {', '.join(choices)}")


def _attention(config: SkillNetConfig) -> RoutedAttention:
    own = config.routing == "skill" and "qkv" in config.routed
    return RoutedAttention(config.hidden, config.heads, config.skills if own else ())


def _give_to_skills(block: Block, config: SkillNetConfig) -> None:
    """Put a module for each skill where ``routed`` has more than the projections: ``"out"``, ``"ffn"``, ``"norm"``."""
    hidden = config.hidden
    if "out" in config.routed:
        block.attention.out = PerSkill(config.skills, lambda: nn.Linear(hidden, hidden))
    if "ffn" in config.routed:
        block.feed_forward = PerSkill(config.skills, lambda: _plain_feed_forward(config))
    if "norm" in config.routed:
        block.attention_norm = PerSkill(config.skills, lambda: nn.LayerNorm(hidden))
        block.ffn_norm = PerSkill(config.skills, lambda: nn.LayerNorm(hidden))


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


def build_network(
    config: SkillNetConfig,
    objectives: Mapping[str, Objective],
    towers: Iterable[Iterable[str]],
    registry: Registry,
    place: str = "",
) -> TaskNetwork:
    """Towers, each with embedders and an encoder of its own, and the heads of the tasks that go through them.

    Args:
        config: the model's.
        objectives: of those tasks.
        towers: the skills that each tower reads.
        registry: the plugins, which bring the embedders.
        place: what the names of the network's parameters in the model begin with.
    """
    built = [
        Tower(
            nn.ModuleDict({skill: _embedder(skill, config, registry) for skill in dict.fromkeys(skills)}),
            build_encoder(config),
            place=f"{place}towers.{number}." if place else "",
        )
        for number, skills in enumerate(towers)
    ]
    return TaskNetwork(built, _heads(objectives, config.hidden))


def _embedder(skill: str, config: SkillNetConfig, registry: Registry) -> nn.Module:
    keys = embedder_config(skill, config.skills[skill]["embedder"], registry)
    embedder: nn.Module = resolve(registry.modality(skill).embedder)(keys, config.hidden)
    return embedder


def _heads(objectives: Mapping[str, Objective], hidden: int) -> nn.ModuleDict:
    """The heads of all tasks, each name once."""
    makers = {name: make for objective in objectives.values() for name, make in objective.heads(hidden).items()}
    heads = nn.ModuleDict({name: make() for name, make in makers.items()})
    for module in heads.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=INIT_STD)
            nn.init.zeros_(module.bias)
    return heads
