"""Small models of every routing, over the toy modalities."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from skillnet_cli.model import SkillNet
from skillnet_cli.model.build import build_config, build_readers
from skillnet_cli.objectives import TaskConfig
from tests.integers import TASKS, toy_registry
from tests.model.conftest import SIZES

VARIANTS: dict[str, dict[str, Any]] = {
    "dense": {"routing": "dense"},
    "moe": {"routing": "moe", "balance": 0.5},
    "separate": {"routing": "separate"},
    "multiway": {"routed": ["qkv", "out", "ffn", "norm"]},
    "shared attention": {"routed": ["ffn", "norm"]},
    "shared projections": {"routed": ["out"]},
}


def variant(**keys: Any) -> SkillNet:
    """A model of all toy skills and tasks, in training mode."""
    torch.manual_seed(1)
    registry = toy_registry()
    readers = build_readers({"alpha": {}, "beta": {}, "gamma": {}}, registry)
    tasks = [TaskConfig(**asdict(task) | {"labels": tuple("abcdefgh")}) for task in TASKS]
    return SkillNet(
        build_config(SIZES | keys, readers, tasks, registry),
        registry,
    ).train()
