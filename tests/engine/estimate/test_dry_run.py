"""Dry batches: bytes against what is known of tensors, and the straight lines against real batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from skillnet_cli.engine.estimate import cost as dry
from skillnet_cli.engine.estimate.cost import Backend, _PeakMemory, dry_run
from skillnet_cli.model.analysis import Flops
from skillnet_cli.model.build import config_of, embedder_config
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import load_registry

HERE = Backend(torch.device("cpu"), "fp32", timed=True)
EMBEDDERS = {
    "text": {"vocab_size": 300, "max_length": 48},
    "code": {"vocab_size": 200, "max_length": 40},
    "sound": {"channels": 16, "max_seconds": 1.0},
    "image": {"resolution": 64, "patch": 16},
    "video": {"resolution": 32},
}
TASKS = ["tc", "asr", "t2i", "t2v", "t2c", "mlm", "units", "image-text", "video-text", "code-mlm"]


def config(layers: int) -> SkillNetConfig:
    registry = load_registry()
    sizes = {"layers": layers, "hidden": 48, "heads": 4, "ffn": 96, "norm": "pre", "activation": "gelu", "dropout": 0.0}
    embedders = {skill: embedder_config(skill, keys, registry) for skill, keys in EMBEDDERS.items()}
    tasks = [TaskConfig(**vars(registry.task(name)), labels=tuple(map(str, range(30)))) for name in TASKS]
    return config_of(sizes, embedders, tasks, registry)


def costs(task: str, layers: int, monkeypatch: pytest.MonkeyPatch, work: float) -> Any:
    monkeypatch.setattr(dry, "WORK", work)
    configured, registry = config(layers), load_registry()
    with torch.device("meta"):
        flops = Flops(SkillNet(configured, registry))
    counted, tokens = flops.of_task(task), flops.tokens_of(task)
    assert counted is not None and tokens is not None
    return dry_run(configured, task, tokens, float(sum(counted.values())), 8, HERE, registry)


def test_memory_is_what_lives_at_once() -> None:
    before = torch.ones(1_000)
    with _PeakMemory([before]) as memory:
        one = torch.ones(100)  # 400 bytes
        two = one * 2  # 800
        del one
        three = torch.ones(50)  # 600
        two.add_(1)
        view = before[:10].view(2, 5)
    assert memory.peak == 800 and memory.now == 600
    del two, three, view
    assert memory.now == 0


@pytest.mark.parametrize("task", TASKS)
def test_two_small_batches_and_two_layers_tell_of_a_large_one(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one item and its double with one layer, and one item with two, against six layers measured as they are."""
    line = costs(task, 6, monkeypatch, work=1.0)
    real = costs(task, 6, monkeypatch, work=1e15)
    assert line is not None and real is not None
    assert line.bytes_of(8) == pytest.approx(real.bytes_of(8), rel=0.1)
    assert real.item_seconds > 0 and real.step_seconds > 0


def test_an_objective_that_says_nothing_of_its_targets_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillnet_cli.objectives.classification.Classification.dummy_targets", lambda *_: None)
    assert costs("tc", 1, monkeypatch, work=1e9) is None
