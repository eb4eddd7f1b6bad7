"""Updates and runs of the demo's recipe for ``benchmarks/training.py``, each measured in a process of its own.

    python benchmarks/demo_runs.py DATA peak ITEMS | seconds | outside STAGE

prints what it found as one line of JSON.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW

from skillnet_cli.data.pipeline import TaskBatch
from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.engine.loader import StepDataset
from skillnet_cli.engine.plan import plan_stage
from skillnet_cli.engine.setup import build_model, choose_precision, setup_training
from skillnet_cli.engine.step import Updater
from skillnet_cli.engine.trainer import run_stage
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe import Recipe, load_recipe
from skillnet_cli.runs import read_metrics

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "demo.toml"
TASK = "t2i"
CHUNK, BOTH = 256, 1_024
"""Items of a chunk, which are those of a batch of the recipe; of a batch that is computed both ways."""
BLOCKS = 6
"""Blocks of the task order in a run, the first of which is not counted."""
ROUNDS = 7


def settings(data: Path, steps: Mapping[str, int] = {}) -> list[str]:
    """What is set otherwise than in the recipe: where the vocabularies are, steps, nothing measured, little saved."""
    return [
        *(f"model.embedders.{skill}.vocab={data}/demo-vocab/{skill}.txt" for skill in ("text", "code")),
        "finetune.start_from=fresh",
        "train.checkpoints.every=1000000",
        "train.eval={every = 1000000, items = 1}",
        *(f"{stage}.steps={count}" for stage, count in steps.items()),
    ]


def recipe_of(data: Path, steps: Mapping[str, int] = {}) -> Recipe:
    """The demo's recipe with these settings."""
    return load_recipe(RECIPE, settings(data, steps), load_registry())


def steps_of(data: Path, stage: str) -> int:
    """BLOCKS times the steps after which the mix of tasks is exact."""
    return BLOCKS * sum(task.ratio for task in recipe_of(data).stages()[stage].tasks.values())


def run_of(data: Path, stage: str, nproc: int) -> Iterator[tuple[str, float]]:
    """(task, seconds) of the steps of a run by the command line, its first block left out."""
    steps = steps_of(data, stage)
    with tempfile.TemporaryDirectory() as runs:
        words = ["--data", str(data), "--runs", runs, "--nproc", str(nproc)]
        changes = [word for change in settings(data, {stage: steps}) for word in ("--set", change)]
        command = [sys.executable, "-m", "skillnet_cli", stage, str(RECIPE), *words, *changes]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        for row in read_metrics(Path(runs) / "demo" / stage / "metrics.jsonl"):
            if row["kind"] == "train" and row["step"] > steps // BLOCKS:
                yield row["task"], row["seconds"]


def updater_and_batch(data: Path) -> tuple[Updater, TaskBatch]:
    """The demo's model, and one plain batch of pictures with their captions."""
    registry, ranks = load_registry(), Ranks(0, 1, torch.device("cpu"))
    plan = plan_stage(recipe_of(data), "finetune", registry, [data])
    dataset = StepDataset.of(plan, registry, ranks)
    (batch,) = next(found for found in map(dataset.__getitem__, range(100)) if found[0].task == TASK)
    assert len(batch.ids) == CHUNK, "the recipe's batch"
    model, _ = build_model(plan, None, registry)
    return setup_training(plan, model, ranks, choose_precision(plan, ranks, None), "replicate"), batch


def chunks(batch: TaskBatch, items: int) -> list[TaskBatch]:
    """So many items in chunks: copies of the batch, taken for different ones."""
    content_ids = torch.arange(2 * items).reshape(-1, len(batch.ids), 2)
    return [dataclasses.replace(joined([batch]), targets={"content_ids": part}) for part in content_ids]


def joined(parts: Sequence[TaskBatch]) -> TaskBatch:
    """Batches as one, in memory of its own."""
    towers = tuple(
        tuple({key: torch.cat([each[key] for each in same]) for key in same[0]} for same in zip(*tower, strict=True))
        for tower in zip(*(part.towers for part in parts), strict=True)
    )
    targets = {key: torch.cat([part.targets[key] for part in parts]) for key in parts[0].targets}
    return dataclasses.replace(parts[0], towers=towers, targets=targets)


def peak(data: Path, items: int) -> int:
    """Bytes by which an update's memory rises above that of the resting model and the decoded inputs."""
    updater, batch = updater_and_batch(data)
    parts = chunks(batch, items)
    updater.update(parts[:1])  # makes the optimizer's state and whatever the first product of a kind needs
    updater.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    resting = memory("VmRSS")
    updater.update(parts)
    return memory("VmHWM") - resting


def memory(field: str) -> int:
    """A line of this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def seconds(data: Path) -> list[float]:
    """Median seconds of an update of BOTH items, as one plain batch and in two passes, taking turns."""
    updater, batch = updater_and_batch(data)
    parts = chunks(batch, BOTH)
    ways = ([joined(parts)], parts)
    laps = [[timed(updater.update, way) for way in ways] for _ in range(1 + ROUNDS)][1:]
    return [statistics.median(column) for column in zip(*laps, strict=True)]


def timed(work: Callable[..., object], *words: Any) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    work(*words)
    return time.perf_counter() - begin


def outside(data: Path, stage: str) -> list[tuple[str, float, float]]:
    """(task, seconds of a step, seconds of it outside forward, backward and optimizer) of a run of the real loop."""
    inside = [0.0]

    def count(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def call(*words: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            found = function(*words, **named)
            inside[-1] += time.perf_counter() - begin
            return found

        setattr(owner, name, call)

    count(SkillNet, "forward")
    count(torch.autograd, "backward")
    count(AdamW, "step")
    update: Callable[..., Any] = Updater.update

    def begin_to_count(self: Updater, *words: Any, **named: Any) -> Any:
        inside.append(0.0)
        return update(self, *words, **named)

    Updater.update = begin_to_count  # type: ignore[method-assign]
    steps = steps_of(data, stage)
    with tempfile.TemporaryDirectory() as run:
        run_stage(recipe_of(data, {stage: steps}), stage, load_registry(), Path(run), [data])
        rows = [row for row in read_metrics(Path(run) / stage / "metrics.jsonl") if row["kind"] == "train"]
    pairs = list(zip(rows, inside[1:], strict=True))[steps // BLOCKS :]
    return [(row["task"], row["seconds"], row["seconds"] - used) for row, used in pairs]


if __name__ == "__main__":
    data, what, *words = sys.argv[1:]
    found: Any
    if what == "peak":
        found = peak(Path(data), int(words[0]))
    elif what == "seconds":
        found = seconds(Path(data))
    else:
        found = outside(Path(data), words[0])
    print(json.dumps(found))
