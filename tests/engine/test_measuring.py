"""On which items a stage is measured while it trains."""

from __future__ import annotations

import pytest

from skillnet_cli.engine.plan import plan_stage
from skillnet_cli.model import device as precision
from skillnet_cli.plugins import load_registry
from skillnet_cli.prepare.writer import SetWriter
from tests.workbench import TARGETS, World, forms, tasks


@pytest.mark.parametrize(
    ("splits", "measured"), [(("dev", "test"), ["dev"]), (("validation",), ["validation"]), ((), [])]
)
def test_the_split_is_found_by_its_usual_names(world: World, splits: tuple[str, ...], measured: list[str]) -> None:
    with SetWriter(world.folder / "data" / "other", name="other", licence="none") as writer:
        for split in ("train", *splits):
            for number in range(8):
                writer.keep(split, f"{split}-{number}", forms("abc"), {})
        writer.finish(TARGETS)
    recipe = world.recipe(finetune__tasks=tasks("fill", datasets=["other"]))
    plan = plan_stage(recipe, "finetune", load_registry(), world.roots)
    assert [split.name for split in plan.tasks["fill"].dev_splits()] == measured


def test_the_part_that_is_measured_is_the_same_each_time_and_the_seeds(world: World) -> None:
    world.train(finetune__eval={"every": 4, "items": 3}, finetune__tasks=tasks("fill"), finetune__lr=1e-9)
    rows = world.rows("eval")
    assert [row["step"] for row in rows] == [4, 8, 12] and all(row["items"] > 0 for row in rows)
    losses = [row["metrics"]["loss"] for row in rows]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)  # nothing is learnt at that rate
    world.train(
        "other", finetune__eval={"every": 4, "items": 3}, finetune__tasks=tasks("fill"), finetune__lr=1e-9, seed=2
    )
    other = [row["metrics"]["loss"] for row in world.rows("eval", run="other")]
    assert other == pytest.approx([other[0]] * 3, rel=1e-4)


def test_it_is_measured_in_the_precision_that_trains(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for own in ("fp32", "bf16"):
        monkeypatch.setattr(precision, "default_precision", lambda device, own=own: own)
        world.train(
            own, finetune__eval={"every": 6}, finetune__tasks=tasks("fill", "match", "spell"), train__precision="fp32"
        )
        found.append([(row["task"], row["metrics"]) for row in world.rows("eval", run=own)])
    assert found[0] == found[1] and {task for task, _ in found[0]} == {"fill", "match", "spell"}
