"""What cannot work is said before the first step."""

from __future__ import annotations

from typing import Any

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.engine.plan import plan_stage
from skillnet_cli.plugins import load_registry
from tests.workbench import World, make_set, tasks


def complaint(world: World, processes: int = 1, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        plan = plan_stage(world.recipe(**changes), "finetune", load_registry(), world.roots)
        plan.check(processes, load_registry())
    return str(caught.value)


def test_a_plan_that_works(world: World) -> None:
    plan = plan_stage(world.recipe(), "finetune", load_registry(), world.roots)
    plan.check(2, load_registry())
    assert plan.tasks["sort"].config.labels == ("odd", "even")
    assert plan.tasks["match"].weights is None and len(plan.tasks["match"].splits[0]) == 48


def test_a_set_that_is_not_there(world: World) -> None:
    assert "no prepared set 'toi'" in complaint(world, finetune__tasks=tasks("fill", datasets=["toi"]))
    assert "did you mean 'toy'?" in complaint(world, finetune__tasks=tasks("fill", datasets=["toi"]))


def test_a_batch_that_does_not_divide(world: World) -> None:
    assert complaint(world, 3, finetune__tasks=tasks("fill")) == (
        "finetune.tasks.fill: batch = 8 is not divisible by the 3 processes: choose a multiple of 3"
    )


def test_too_few_items_for_a_contrastive_batch(world: World) -> None:
    assert complaint(world, finetune__tasks=tasks("match", batch=49)) == (
        "finetune.tasks.match: 48 training items of toy are too few for the 49 in one contrastive batch"
    )


def test_too_few_items_of_one_set_at_its_weight(world: World) -> None:
    make_set(world.folder / "data", "small", train=4)
    weights = {"toy": 1.0, "small": 1.0}
    assert complaint(world, finetune__tasks=tasks("match", batch=10, datasets=weights)) == (
        "finetune.tasks.match: 4 training items of small are too few for the 5 in one contrastive batch"
    )
    plan = plan_stage(
        world.recipe(finetune__tasks=tasks("match", batch=10, datasets=["toy", "small"])),
        "finetune", load_registry(), world.roots,
    )  # fmt: skip
    plan.check(1, load_registry())


@pytest.mark.parametrize(
    ("task", "field", "value", "strange"),
    [("sort", "label", "prime", "'prime'"), ("spell", "transcript", "abz", "'z'"), ("units", "units", [0, 8], "'8'")],
)
def test_a_label_outside_the_space(world: World, task: str, field: str, value: Any, strange: str) -> None:
    make_set(world.folder / "data", "odd", **{field: value})
    message = complaint(world, finetune__tasks=tasks(task, datasets=["odd"]))
    assert f"data set 'odd', item train-0: {field} {strange} is not in the list of" in message


def test_a_set_without_what_the_task_needs(world: World) -> None:
    make_set(world.folder / "data", "mute", leave_out=("waves", "label"))
    message = complaint(world, finetune__tasks=tasks("match", "sort", datasets=["mute"]))
    assert message.splitlines() == [
        "finetune.tasks.match: data set 'mute' has no waves; it has letters, marks, transcript, units",
        "finetune.tasks.sort: data set 'mute' has no label; it has letters, marks, transcript, units",
    ]


def test_a_set_without_training_items(world: World) -> None:
    make_set(world.folder / "data", "held", train=0)
    assert "has no split 'train'; it has dev" in complaint(world, finetune__tasks=tasks("fill", datasets=["held"]))


def test_a_set_that_lists_no_labels(world: World) -> None:
    make_set(world.folder / "data", "bare", targets={})
    message = complaint(world, finetune__tasks=tasks("sort", datasets=["bare"]))
    assert "data set 'bare' lists no values for 'label'" in message


def test_all_problems_at_once(world: World) -> None:
    message = complaint(world, 3, finetune__tasks={**tasks("fill"), **tasks("match", batch=50)})
    assert len(message.splitlines()) == 3
