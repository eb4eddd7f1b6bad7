"""Only what a task activates travels: the bytes of every collective, counted, against the activated parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry
from tests.distributed import ranks
from tests.distributed.ranks import ends, start_ranks
from tests.workbench import TASKS, World, tasks, toy_world

SETTINGS: dict[str, Any] = {
    "finetune__steps": len(TASKS),
    "finetune__tasks": tasks(*TASKS),
    "model__hidden": 32,
    "model__ffn": 32,
    "train__checkpoints": {"every": 100},
}
BESIDES = 2_000
"""Bytes for losses, counts, the gradient's norm, and padding."""


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with toy_world(tmp_path_factory.mktemp("bytes")) as world, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "ONE_RANK", ranks.ONE_RANK.with_name("count_bytes.py"))
        yield world


def sent(world: World, strategy: str, **changes: Any) -> tuple[SkillNet, dict[str, dict[str, int]]]:
    """The model, and for each task the bytes by collective."""
    file = world.folder / f"{strategy}.jsonl"
    recipe = world.recipe(name=strategy, train__strategy=strategy, **SETTINGS, **changes)
    for code, message in ends(start_ranks(world, recipe, strategy, SENT=str(file))):
        assert code == 0, message
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row["task"] for row in rows} == set(TASKS)
    return SkillNet.from_pretrained(world.run(strategy) / "model", registry=load_registry()), {
        row.pop("task"): row for row in rows
    }


def test_copies_send_the_gradients_of_what_is_activated(counted: World) -> None:
    model, rows = sent(counted, "replicate")
    whole = 4 * sum(parameter.numel() for parameter in model.parameters())
    for task, row in rows.items():
        activated = 4 * model.activated_parameters(task)
        assert set(row) == {"all_reduce"}
        assert row["all_reduce"] == pytest.approx(activated, abs=BESIDES), task
        assert row["all_reduce"] < 0.8 * whole


def test_parts_send_what_is_activated_and_its_gradients(counted: World) -> None:
    """Every part is gathered for each tower's pass forward, again for those backward, and its gradients are shared."""
    model, rows = sent(counted, "fsdp")
    for task, row in rows.items():
        activated = 4 * model.activated_parameters(task)
        assert row["reduce_scatter_tensor"] == pytest.approx(activated, abs=BESIDES), task
        passes = 2 * len(model.task(task).towers)
        assert activated - BESIDES < row["all_gather_into_tensor"] < passes * activated + BESIDES, task
        assert row["all_reduce"] < BESIDES
