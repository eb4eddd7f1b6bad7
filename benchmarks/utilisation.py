"""FLOP/s of large products and of text-to-image updates of the paper's size, for ``benchmarks/training.py``."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from skillnet_cli.data.pipeline import TaskBatch
from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.engine.step import Updater, build_optimizer
from skillnet_cli.model.analysis import Flops
from skillnet_cli.model.build import build_config, build_readers
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe.schema import OptimizerSection, Stage, StageTask

TASK = "t2i"
TOKENS, RESOLUTION, VOCABULARY = 64, 224, 21_128
ROUNDS = 7


def peak_flops(device: torch.device, side: int = 8_192) -> float:
    """FLOP/s of a large product in bf16."""
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / median_seconds(lambda: a @ a, device)


def training_flops(device: torch.device, items: int, sizes: Mapping[str, Any] = {}) -> float:
    """FLOP/s of updates of so many texts and pictures; a backward pass counts as two forward ones."""
    model, readers = model_of(sizes)
    flops = Flops(model).of_task(TASK)
    assert flops is not None, "both embedders say what their longest item is"
    model.to(device).train()
    task = StageTask(datasets={"none": None}, batch=items)
    stage = Stage(steps=1_000_000, lr=1e-5, tasks={TASK: task})
    optimizer = build_optimizer(model, OptimizerSection())
    updater = Updater(model, optimizer, stage, "bf16", 1, Ranks(0, 1, device))
    batch = batch_of(readers, items)
    return 3 * items * sum(flops.values()) / median_seconds(lambda: updater.update([batch]), device)


def model_of(sizes: Mapping[str, Any]) -> tuple[SkillNet, Any]:
    """The paper's model for text and image, or a smaller one, and its readers."""
    registry = load_registry()
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "text.txt"
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        pieces += [chr(0x3400 + number) for number in range(VOCABULARY - len(pieces))]
        vocabulary.write_text("\n".join(pieces) + "\n", encoding="utf-8")
        keys: dict[str, dict[str, Any]] = {
            "text": {"vocab": vocabulary, "max_length": TOKENS},
            "image": {"resolution": RESOLUTION},
        }
        readers = build_readers(keys, registry)
    config = build_config(
        sizes,
        readers,
        [TaskConfig(**vars(registry.task(TASK)))],
        registry,
    )
    return SkillNet(config, registry), readers


def batch_of(readers: Mapping[str, Any], items: int) -> TaskBatch:
    """Texts and pictures of the longest."""
    text = readers["text"].collate([torch.arange(5, 5 + TOKENS)] * items)
    image = {"pixels": torch.zeros(items, 3, RESOLUTION, RESOLUTION, dtype=torch.uint8)}
    content_ids = torch.arange(2 * items).reshape(items, 2)
    return TaskBatch(TASK, ((text,), (image,)), {"content_ids": content_ids}, tuple(map(str, range(items))))


def median_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of several calls, after two to warm up."""
    laps = []
    for _ in range(2 + ROUNDS):
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        laps.append(time.perf_counter() - begin)
    return statistics.median(laps[2:])
