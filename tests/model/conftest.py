"""A small model over toy modalities, with a task of every objective."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from skillnet_cli.model import SkillNet
from skillnet_cli.model.build import build_config, build_readers
from skillnet_cli.objectives import TaskConfig
from tests.integers import TASKS, toy_registry

SIZES = {"layers": 2, "hidden": 32, "heads": 4, "ffn": 64, "norm": "pre", "activation": "quick_gelu", "dropout": 0.0}


@pytest.fixture(params=["pre", "post"])
def norm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(norm: str) -> SkillNet:
    torch.manual_seed(1)
    registry = toy_registry()
    readers = build_readers({"alpha": {}, "beta": {}, "gamma": {}}, registry)
    tasks = [TaskConfig(**asdict(task) | {"labels": tuple("abcdefgh")}) for task in TASKS]
    return SkillNet(
        build_config(SIZES | {"norm": norm}, readers, tasks, registry),
        registry,
    )
