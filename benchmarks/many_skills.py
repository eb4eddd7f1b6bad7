"""A plugin of as many skills as one likes, and what one update costs a model that has them all.

``benchmarks/sparse_load.py`` runs it; the modality is a table of token vectors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from skillnet_cli.api import Batch, Modality, Task
from skillnet_cli.data.pipeline import TaskBatch
from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.engine.step import Updater, build_optimizer
from skillnet_cli.model.build import build_config, build_readers
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import Plugin, Registry, build_registry
from skillnet_cli.recipe.schema import OptimizerSection, Stage, StageTask

TASK = Task("first", (("skill0",),), "classification", "label")
LABELS = tuple("abcdefgh")
SIZES = {"layers": 12, "hidden": 256, "heads": 4, "ffn": 1024, "norm": "pre", "activation": "gelu", "dropout": 0.0}
ITEMS, LENGTH = 16, 64


class TableConfig(BaseModel):
    """Keys of the embedder."""

    vocabulary: int = 100


class TableReader:
    """Only what building a model asks of a reader."""

    def __init__(self, config: TableConfig, assets: Path | None = None) -> None:
        self.config = config


class TableEmbedder(nn.Module):
    """A table of token vectors and a norm."""

    def __init__(self, config: TableConfig, hidden: int) -> None:
        super().__init__()
        self.table = nn.Embedding(config.vocabulary, hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Packed vectors of ``ids`` (tokens,), and ``lengths`` (items,)."""
        return self.norm(self.table(batch["ids"])), batch["lengths"]


def registry_of(skills: int) -> Registry:
    """A registry of ``skill0``, ``skill1``, … and a task that activates the first."""
    config, reader, embedder = (f"many_skills:Table{name}" for name in ("Config", "Reader", "Embedder"))
    modalities = tuple(Modality(f"skill{number}", (), config, reader, embedder) for number in range(skills))
    return build_registry([Plugin("many", "skillnet-many", "1.0", modalities=modalities, tasks=(TASK,))])


def updater_of(skills: int) -> Updater:
    """A model with that many skills, and its updater."""
    torch.manual_seed(1)
    registry = registry_of(skills)
    readers = build_readers({skill: {} for skill in registry.modalities}, registry)
    task = TaskConfig(**vars(TASK), labels=LABELS)
    model = SkillNet(build_config(SIZES, readers, [task], registry), registry).train()
    settings = StageTask(datasets={"none": None}, batch=ITEMS)
    stage = Stage(steps=1_000_000, lr=1e-5, precision="fp32", tasks={TASK.name: settings})
    ranks = Ranks(0, 1, torch.device("cpu"))
    return Updater(model, build_optimizer(model, OptimizerSection()), stage, "fp32", 1, ranks)


def batch() -> TaskBatch:
    """Random items, the same every time."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 100, (ITEMS * LENGTH,), generator=generator)
    classes = torch.randint(0, len(LABELS), (ITEMS,), generator=generator)
    segment = {"ids": ids, "lengths": torch.full((ITEMS,), LENGTH)}
    return TaskBatch(TASK.name, ((segment,),), {"classes": classes}, tuple(map(str, range(ITEMS))))


@dataclass(frozen=True)
class Cost:
    """Of one update: seconds of CPU time, and bytes of activations kept for the backward pass and of gradients."""

    seconds: float
    activations: int
    gradients: int


def costs(updaters: Sequence[Updater], rounds: int) -> list[list[Cost]]:
    """For each updater its costs; they take turns, after one update each to begin with."""
    for updater in updaters:
        updater.update([batch()])
    return [list(each) for each in zip(*([_cost(updater) for updater in updaters] for _ in range(rounds)), strict=True)]


def _cost(updater: Updater) -> Cost:
    seconds = _timed(lambda: updater.update([batch()]))
    parameters = {parameter.untyped_storage().data_ptr() for parameter in updater.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        updater.update([batch()])
    gradients = [parameter.grad for parameter in updater.model.parameters() if parameter.grad is not None]
    return Cost(seconds, sum(kept.values()), sum(each.untyped_storage().nbytes() for each in gradients))


def _timed(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin
