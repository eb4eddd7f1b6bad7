"""The loop in this process: it learns, measures, skips what is not finite, replaces what is damaged, and exports."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.engine.loader import StepDataset
from skillnet_cli.engine.plan import StagePlan, plan_stage
from skillnet_cli.engine.setup import build_model, setup_training
from skillnet_cli.engine.step import Updater
from skillnet_cli.model.parts import part_of
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe import load_recipe
from skillnet_cli.runs import read_results
from tests.workbench import TASKS, World, make_set, tasks

ALONE = Ranks(0, 1, torch.device("cpu"))


def start(world: World, **changes: Any) -> tuple[StagePlan, Updater]:
    plan = plan_stage(world.recipe(**changes), "finetune", load_registry(), world.roots)
    plan.check(1, load_registry())
    model, fresh = build_model(plan, None, load_registry())
    assert fresh == []
    return plan, setup_training(plan, model, ALONE, "fp32", "replicate")


def test_losses_fall(world: World) -> None:
    world.train(
        finetune__steps=60, finetune__tasks=tasks("sort", "fill"), model__hidden=32, finetune__schedule="constant"
    )
    rows = world.rows()
    assert [row["step"] for row in rows] == list(range(1, 61))
    for task in ("sort", "fill"):
        losses = [row["loss"] for row in rows if row["task"] == task]
        assert sum(losses[-10:]) < 0.9 * sum(losses[:10]), task


def test_every_task_is_trained_in_the_mix_of_the_ratios(world: World) -> None:
    mix = {**tasks(*TASKS[:3]), **tasks("fill", ratio=3)}
    world.train(finetune__tasks=mix)
    seen = [task for task, _ in world.losses()]
    assert {task: seen.count(task) for task in mix} == {"sort": 2, "spell": 2, "match": 2, "fill": 6}


def test_what_a_task_does_not_activate_stays_bit_for_bit(world: World) -> None:
    """Parameters and the optimizer's state, after every update of every task, weight decay and momentum running."""
    plan, updater = start(world, finetune__steps=18, train__optimizer={"weight_decay": 0.5})
    dataset = StepDataset.of(plan, load_registry(), ALONE)
    for step in range(18):
        before = snapshot(updater)
        task = updater.update(dataset[step]).task
        active = updater.model.activated_parts(task)
        for name, tensor in snapshot(updater).items():
            moved = name not in before or not torch.equal(tensor, before[name])
            assert not moved or part_of(name.partition("/")[0]) in active, (task, name)


def test_what_a_task_activates_moves(world: World) -> None:
    plan, updater = start(world, finetune__tasks=tasks("pair"))
    before = snapshot(updater)
    updater.update(StepDataset.of(plan, load_registry(), ALONE)[0])
    still = {name for name, tensor in snapshot(updater).items() if name in before and torch.equal(tensor, before[name])}
    parts = {part_of(name) for name, _ in updater.model.named_parameters() if name not in still}
    assert parts == set(updater.model.activated_parts("pair"))


def snapshot(updater: Updater) -> dict[str, torch.Tensor]:
    found = {}
    for name, parameter in updater.model.named_parameters():
        found[name] = parameter.detach().clone()
        for key, value in updater.optimizer.state.get(parameter, {}).items():
            found[f"{name}/{key}"] = value.clone()
    return found


def test_micro_batches_change_nothing_but_memory(world: World) -> None:
    some = ("sort", "spell", "fill", "pair", "units")
    world.train(name="whole", run="whole", finetune__tasks=tasks(*some))
    world.train(name="parts", run="parts", finetune__tasks=tasks(*some, micro_batch=3))
    whole, parts = world.losses("whole"), world.losses("parts")
    assert [task for task, _ in whole] == [task for task, _ in parts]
    assert [loss for _, loss in whole] == pytest.approx([loss for _, loss in parts], abs=1e-5)
    assert [row["count"] for row in world.rows(run="whole")] == [row["count"] for row in world.rows(run="parts")]


def test_measuring_and_reading_ahead_do_not_touch_the_training(world: World) -> None:
    settings: dict[str, Any] = {"finetune__steps": 6, "model__dropout": 0.2}
    world.train(run="plain", **settings)
    world.train(run="measured", finetune__eval={"every": 2, "items": 5}, train__workers=2, **settings)
    assert world.losses("measured") == world.losses("plain")
    rows = world.rows("eval", run="measured")
    assert {row["step"] for row in rows} == {2, 4, 6} and len(rows) == 3 * len(TASKS)
    assert {row["items"] for row in rows} == {5}
    assert read_results(world.run("measured")) == []  # figures of 5 items of 12 are no results


def test_an_update_that_is_not_finite_is_left_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, updater = start(world, finetune__steps=9, finetune__warmup=0, finetune__tasks=tasks("sort"))
    dataset = StepDataset.of(plan, load_registry(), ALONE)
    first = updater.update(dataset[0])
    before = snapshot(updater)
    with monkeypatch.context() as patch:
        spoil(patch)
        spoilt = updater.update(dataset[1])
    after = snapshot(updater)
    assert not spoilt.applied and all(torch.equal(after[name], before[name]) for name in before)
    second = updater.update(dataset[2])
    assert (first.applied, second.applied) == (True, True)
    assert second.lr == pytest.approx(first.lr * 8 / 9) and spoilt.lr == second.lr
    assert (updater.progress.step, updater.progress.skipped, updater.progress.skipped_in_row) == (3, 1, 0)


def test_too_many_skipped_updates_in_a_row_end_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch)
    with pytest.raises(FailedJob, match="step 3: the last 3 updates were not finite: lower the lr"):
        world.train(train__max_skipped_updates=3)
    assert [row["step"] for row in world.rows("skipped")] == [1, 2, 3]
    assert [row["loss"] for row in world.rows()] == [None, None, None]


def spoil(patch: pytest.MonkeyPatch) -> None:
    """Every loss becomes infinite."""
    original = SkillNet.forward

    def forward(self: SkillNet, *args: Any) -> Any:
        loss, count = original(self, *args)
        return loss * float("inf"), count

    patch.setattr(SkillNet, "forward", forward)


def test_a_damaged_item_is_replaced_and_written_down(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    make_set(world.folder / "data", "torn", train=16, letters=["a?b"])
    world.train(finetune__steps=2, finetune__tasks=tasks("fill", datasets=["torn"]))
    (row,) = world.rows("damaged")
    assert row["id"] == "train-0" and row["reason"] == "a question mark is no letter"
    assert "item train-0 is replaced: a question mark is no letter" in capsys.readouterr().err


def test_a_set_that_cannot_be_read_at_all_is_one_line(world: World) -> None:
    make_set(world.folder / "data", "torn", train=1, letters=["?"])
    with pytest.raises(FailedJob, match=r"^task 'fill': 100 samples in a row cannot be read"):
        world.train(train__workers=1, finetune__tasks=tasks("fill", datasets=["torn"]))


def test_a_reader_that_is_killed_is_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepDataset, "__getitem__", lambda self, step: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(FailedJob, match=r"^a process that reads data died \(DataLoader worker .*\): run it again"):
        world.train(train__workers=1)


def test_the_result_is_a_model_that_loads(world: World) -> None:
    world.train(finetune__steps=2)
    model = SkillNet.from_pretrained(world.run() / "model", registry=load_registry())
    assert set(model.config.tasks) == set(TASKS) and set(model.readers) == {"letters", "waves", "marks"}
    saved = checkpoint_tensors(world, 2)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in model.state_dict().items())


def checkpoint_tensors(world: World, step: int, run: str = "toy", stage: str = "finetune") -> dict[str, torch.Tensor]:
    return load_file(world.run(run) / stage / "checkpoints" / f"step-{step}" / "model.safetensors")


def test_finetuning_starts_from_pretraining(world: World) -> None:
    world.train(stage="pretrain", pretrain__steps=3)
    pretrained = checkpoint_tensors(world, 3, stage="pretrain")
    assert SkillNet.from_pretrained(world.run() / "model", registry=load_registry()).config.tasks.keys() == set(TASKS)
    settings: dict[str, Any] = {
        "pretrain__steps": 3,
        "finetune__start_from": "pretrain",
        "finetune__steps": 1,
        "finetune__lr": 1e-30,
    }
    world.train(**settings)
    torch.testing.assert_close(checkpoint_tensors(world, 1), pretrained, rtol=0, atol=1e-20)
    elsewhere = str(world.run() / "pretrain" / "model")
    world.train(run="other", **{**settings, "finetune__start_from": elsewhere})
    torch.testing.assert_close(checkpoint_tensors(world, 1, "other"), pretrained, rtol=0, atol=1e-20)


def test_pretraining_that_was_not_run_is_missed(world: World) -> None:
    with pytest.raises(
        UserError, match=r"no finished pretraining: run skillnet pretrain first, or add --set finetune\.start_from"
    ):
        world.train(finetune__start_from="pretrain")


def test_a_model_of_another_size_is_refused(world: World) -> None:
    world.train(stage="pretrain", pretrain__steps=1)
    with pytest.raises(
        UserError, match=r"pretrain.model: tensor '.*' has shape \(.*16.*\), the recipe asks for \(.*32.*\)"
    ):
        world.train(model__hidden=32, finetune__start_from="pretrain")


def test_parts_that_the_origin_lacks_are_fresh_and_named(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.train(finetune__steps=1, pretrain=None, finetune__tasks=tasks("fill"))
    elsewhere = str(world.run() / "model")
    changes: dict[str, Any] = {"pretrain": None, "finetune__steps": 1, "finetune__tasks": tasks("sort")}
    world.train(run="other", finetune__start_from=elsewhere, **changes)
    assert "which lacks heads.sort." in capsys.readouterr().err


def test_the_start_says_what_will_happen(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.train(finetune__steps=6, finetune__tasks={**tasks("match", ratio=2), **tasks("fill")})
    first, origin, match, fill, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("finetune of toy: 6 steps at lr 0.01 (linear, 2 to warm up)") and ", fp32, seed 1" in first
    assert origin == "  from newly initialised parameters"
    assert "match: 2/3 of the updates, batches of 8 (7 negatives, chance 2.08), 48 items of toy (0.7 epochs)" in match
    assert "fill: 1/3 of the updates, batches of 8, 48 items of toy (0.3 epochs)" in fill


def test_the_run_keeps_its_recipe(world: World) -> None:
    world.train(finetune__steps=1, train__clip=3.0)
    kept = load_recipe(world.run() / "recipe.toml", registry=load_registry())
    assert kept == world.recipe(finetune__steps=1, train__clip=3.0)


def test_metrics_rows_have_what_readers_need(world: World) -> None:
    world.train(finetune__steps=1)
    (row,) = world.rows()
    assert {"kind", "step", "task", "loss", "lr", "grad_norm", "count", "seconds", "data_wait"} <= set(row)
    json.dumps(row, allow_nan=False)


def test_items_that_come_twice_in_a_batch_are_counted(world: World) -> None:
    """Of 48 items, which have 40 words, all are compared at once: 8 words come twice, so 16 items have a like."""
    make_set(world.folder / "data", "twice", words=[a + b for a in "abcdefgh" for b in "abcde"])
    mix = {**tasks("match", datasets=["twice"], batch=48, micro_batch=10), **tasks("fill")}
    world.train(finetune__steps=2, finetune__tasks=mix)
    found = {row["task"]: row.get("duplicates") for row in world.rows()}
    assert found == {"match": 16, "fill": None}
