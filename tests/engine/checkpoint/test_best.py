"""The best models are kept: by each task's first metric in its direction, and by mean rank."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from skillnet_cli.api import Metric, UserError
from skillnet_cli.engine.checkpoint.best import Best
from skillnet_cli.engine.checkpoint.format import MODEL, Checkpoint
from skillnet_cli.evaluation.metrics import higher_is_better
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Plugin, build_registry, load_registry
from skillnet_cli.runs import Result, StageFolder
from tests.workbench import World, tasks

REGISTRY = build_registry(
    [Plugin("toy", "skillnet-toy", "1", metrics=(Metric("error", "toy:error", higher_is_better=False),))]
)


class Numbered(SkillNet):
    """Stands for a model, of which only its number is written."""

    def __init__(self, number: int) -> None:
        nn.Module.__init__(self)
        self.number = number

    def save(self, folder: Path, readers: Any = None) -> None:
        folder.mkdir(parents=True)
        (folder / "model").write_text(str(self.number))


@pytest.fixture
def keeper(tmp_path: Path) -> Best:
    return Best(StageFolder(tmp_path), ("tasks", "mean"), {}, REGISTRY)


def results(read: float, hear: float) -> list[Result]:
    return [
        Result("read", "one", "dev", {"accuracy": read - 0.1, "error": 3.0}, 5, 5),
        Result("read", "two", "dev", {"accuracy": read + 0.1, "error": 3.0}, 5, 5),
        Result("hear", "one", "dev", {"error": hear, "accuracy": 0.5}, 5, 5),
    ]


def kept(keeper: Best) -> dict[str, int]:
    root = keeper.folder.best
    return {path.parent.relative_to(root).as_posix(): int(path.read_text()) for path in root.rglob("model")}


def consider(keeper: Best, step: int, found: Sequence[Result]) -> list[str]:
    return keeper.consider(step, found, Numbered(step))


def test_each_task_has_its_best_in_the_direction_of_its_first_metric(keeper: Best) -> None:
    for step, (read, hear) in enumerate([(0.5, 0.9), (0.7, 0.8), (0.6, 0.3), (0.7, 0.4)], 1):
        consider(keeper, step, results(read, hear))
    assert kept(keeper) == {"tasks/read": 2, "tasks/hear": 3, "mean": 4}
    book = json.loads((keeper.folder.best / "best.json").read_text())
    assert book["higher_is_better"] == {"read": True, "hear": False}
    assert book["best"]["tasks/hear"] == {"step": 3, "error": 0.3}
    assert book["best"]["mean"] == {"step": 4, "mean_rank": 1.75}  # ranks 1.5 of 4 and 2 of 4
    assert book["measured"]["3"]["read"] == pytest.approx(0.6)


def test_one_that_is_only_as_good_takes_no_place(keeper: Best) -> None:
    assert len(consider(keeper, 1, results(0.5, 0.5))) == 3
    assert consider(keeper, 2, results(0.5, 0.5)) == []


def test_a_step_considered_before_the_run_was_stopped_changes_nothing(keeper: Best) -> None:
    consider(keeper, 1, results(0.5, 0.5))
    consider(keeper, 2, results(0.6, 0.6))
    before = kept(keeper), (keeper.folder.best / "best.json").read_bytes()
    assert consider(keeper, 2, results(0.6, 0.6)) == []
    assert (kept(keeper), (keeper.folder.best / "best.json").read_bytes()) == before


def test_a_damaged_book_is_named(keeper: Best) -> None:
    keeper.folder.best.mkdir(parents=True)
    (keeper.folder.best / "best.json").write_text('{"best": ')
    with pytest.raises(UserError, match=r"best\.json is damaged .*delete it"):
        consider(keeper, 1, results(0.5, 0.5))


def test_directions() -> None:
    assert not higher_is_better("error", REGISTRY) and not higher_is_better("loss", REGISTRY)
    assert higher_is_better("accuracy", REGISTRY) and higher_is_better("recall@1", REGISTRY)


def test_the_best_models_of_a_run_open_and_are_of_their_step(world: World) -> None:
    world.train(
        finetune__tasks=tasks("sort", "match"),
        finetune__eval={"every": 4, "items": 12},
        train__checkpoints={"every": 4, "keep": 9, "best": ["tasks", "mean"]},
    )
    stage = world.run() / "finetune"
    book = json.loads((stage / "best" / "best.json").read_text())
    assert book["measured"].keys() == {"4", "8", "12"} and book["best"].keys() == {"tasks/sort", "tasks/match", "mean"}
    for place, facts in book["best"].items():
        model = SkillNet.from_pretrained(stage / "best" / place, registry=load_registry())
        raw = Checkpoint(stage / "checkpoints" / f"step-{facts['step']}", facts["step"]).tensors(MODEL)
        assert all(torch.equal(tensor, raw[name]) for name, tensor in model.state_dict().items())
    figures = {row["step"]: row["metrics"]["accuracy"] for row in world.rows("eval") if row["task"] == "sort"}
    assert book["best"]["tasks/sort"]["accuracy"] == max(figures.values())


def test_the_best_of_nothing_is_a_mistake(world: World) -> None:
    with pytest.raises(UserError, match=r"finetune\.checkpoints\.best: nothing to choose the best from: set eval too"):
        world.train(train__checkpoints={"best": ["mean"]})
