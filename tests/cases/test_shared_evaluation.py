"""Ranks that train together measure together: each its share, all with the figures that one process finds."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.api import DamagedItem, FailedJob
from skillnet_cli.data.prepared import PreparedSet, Split
from skillnet_cli.engine.distributed.mesh import process_group
from skillnet_cli.engine.trainer import run_stage
from skillnet_cli.evaluation.evaluate import evaluate
from skillnet_cli.inference import encoder
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry
from skillnet_cli.runs import read_metrics
from tests.ranks import run_ranks
from tests.workbench import TASKS, World, tasks, toy_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With the run ``one`` of all tasks, measured by one process every third step."""
    with toy_world(tmp_path_factory.mktemp("shared")) as world:
        world.train("one", **SETTINGS)
        yield world


SETTINGS: dict[str, Any] = {
    "finetune__steps": 6,
    "finetune__tasks": tasks(*TASKS),
    "train__checkpoints": {"every": 6, "keep": 1, "best": ["tasks", "mean"]},
    "train__eval": {"every": 3, "items": 11},
}


def split_of(world: World) -> Split:
    return PreparedSet.open(world.roots[0] / "toy").split("dev")


def measure(world: World, target: Path, limit: int | None) -> None:
    """All tasks, by all ranks; each writes what it found."""
    registry = load_registry()
    model = SkillNet.from_pretrained(world.run("one") / "model", registry=registry)
    with process_group(60.0) as ranks:
        found = [
            evaluate(
                model, model.readers, model.task(task), split_of(world), registry, limit=limit, precision="fp32",
                ranks=ranks,
            ).as_json()
            for task in TASKS
        ]  # fmt: skip
        (target / f"{ranks.rank}-of-{ranks.world}.json").write_text(json.dumps(found))


def alone(world: World, limit: int | None) -> list[dict[str, Any]]:
    registry = load_registry()
    model = SkillNet.from_pretrained(world.run("one") / "model", registry=registry)
    return [
        json.loads(json.dumps(evaluate(
            model, model.readers, model.task(task), split_of(world), registry, limit=limit, precision="fp32"
        ).as_json()))
        for task in TASKS
    ]  # fmt: skip


@pytest.mark.parametrize(("count", "limit"), [(2, None), (3, 2)])
def test_b02_ranks_find_the_figures_of_one(world: World, tmp_path: Path, count: int, limit: int | None) -> None:
    """The same metrics, counts and cases on every rank, also where there are fewer items than ranks."""
    wanted = alone(world, limit)
    assert run_ranks(count, measure, world, tmp_path, limit) == [0] * count
    for rank in range(count):
        for one, shared in zip(wanted, json.loads((tmp_path / f"{rank}-of-{count}.json").read_text()), strict=True):
            figures, expected = shared.pop("metrics"), one["metrics"]
            assert figures == pytest.approx(expected, rel=1e-6), one["task"]
            assert shared == {key: value for key, value in one.items() if key != "metrics"}


def count_shares(world: World, target: Path) -> None:
    """Each rank writes how many sources it has encoded for a retrieval."""
    read = encoder.read_each
    count = 0

    def counting(*arguments: Any) -> Iterator[Any]:
        nonlocal count
        for each in read(*arguments):
            count += 1
            yield each

    encoder.read_each = counting
    registry = load_registry()
    model = SkillNet.from_pretrained(world.run("one") / "model", registry=registry)
    with process_group(60.0) as ranks:
        evaluate(model, model.readers, model.task("match"), split_of(world), registry, ranks=ranks)
        (target / str(ranks.rank)).write_text(str(count))


def test_b02_each_rank_encodes_its_share(world: World, tmp_path: Path) -> None:
    assert run_ranks(2, count_shares, world, tmp_path) == [0, 0]
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["12", "12"]  # of 12 items and their 12 texts


def measure_damaged(world: World, target: Path, whole: bool) -> None:
    """Rank 1's first item, or every item, cannot be read."""
    registry = load_registry()
    model = SkillNet.from_pretrained(world.run("one") / "model", registry=registry)
    reader = type(model.readers["letters"])
    read = reader.read
    damaged = set(range(12)) if whole else {1}
    words = [sample["letters"][0] for sample in split_of(world)]

    def failing(self: Any, source: Any, rng: Any = None) -> Any:
        if words.index(source) in damaged:
            raise DamagedItem("burnt")
        return read(self, source, rng)

    reader.read = failing
    with process_group(60.0) as ranks:
        try:
            found = evaluate(model, model.readers, model.task("sort"), split_of(world), registry, ranks=ranks)
            said = [found.items, found.damaged]
        except FailedJob as error:
            said = [str(error)]
        (target / str(ranks.rank)).write_text(json.dumps(said))


@pytest.mark.parametrize("whole", [False, True])
def test_b02_what_one_rank_cannot_read_all_know(world: World, tmp_path: Path, whole: bool) -> None:
    assert run_ranks(2, measure_damaged, world, tmp_path, whole) == [0, 0]
    said = [json.loads((tmp_path / rank).read_text()) for rank in "01"]
    assert said[0] == said[1]
    assert ("none of 12 items" in said[0][0]) if whole else said[0] == [11, 1]


def train(world: World, run: str, settings: dict[str, Any], pause: float) -> None:
    """A training in which rank 0 takes its time for each of the six items that it measures first."""
    by_length, pauses = encoder.by_length, [pause] * 6 * (os.environ["RANK"] == "0")

    def slow(items: Iterable[Any], *arguments: Any, **options: Any) -> Iterator[Any]:
        slowly = (each for each in items if not time.sleep(pauses.pop() if pauses else 0))
        return by_length(slowly, *arguments, **options)

    encoder.by_length = slow
    from skillnet_cli.evaluation import predictions

    predictions.by_length = slow
    run_stage(world.recipe(**settings), "finetune", load_registry(), world.run(run), world.roots)


def test_b02_measuring_may_take_longer_than_the_timeout(world: World) -> None:
    """A rank that gets on is never lost; the figures are those of one process."""
    settings = {**SETTINGS, "train__timeout": 6, "finetune__tasks": tasks("sort", "match"), "finetune__steps": 4}
    world.train("patient", **settings)
    assert run_ranks(2, train, world, "slow", settings, 1.4) == [0, 0]

    def figures(run: str) -> list[Any]:
        rows = read_metrics(world.run(run) / "finetune" / "metrics.jsonl")
        return [(row["step"], row["task"], row["metrics"]) for row in rows if row["kind"] == "eval"]

    assert len(figures("patient")) == 4
    for one, other in zip(figures("patient"), figures("slow"), strict=True):
        assert one[:2] == other[:2] and one[2] == pytest.approx(other[2], abs=1e-3)
