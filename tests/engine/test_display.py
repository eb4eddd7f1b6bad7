"""What the person who watches sees: lines in a log, a table in a terminal."""

from __future__ import annotations

import pytest

from skillnet_cli.engine import telemetry
from skillnet_cli.engine.plan import StagePlan, plan_stage
from skillnet_cli.engine.step import UpdateResult
from skillnet_cli.engine.telemetry import Telemetry
from skillnet_cli.plugins import load_registry
from skillnet_cli.runs import Result, StageFolder
from tests.workbench import World


def opened(world: World, start: int = 0, enabled: bool = True) -> Telemetry:
    return Telemetry(stage_plan(world), StageFolder(world.run() / "finetune"), start, enabled)


def stage_plan(world: World) -> StagePlan:
    return plan_stage(world.recipe(finetune__steps=8), "finetune", load_registry(), world.roots)


def updated(task: str, loss: float) -> UpdateResult:
    return UpdateResult(task, loss, count=8, lr=0.1, grad_norm=1.0, applied=True, stop=0)


def test_plain_lines_come_now_and_then_and_at_the_end(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 105.0, 111.0, 112.0, 113.0])
    monkeypatch.setattr(telemetry.time, "monotonic", lambda: next(clock))
    with opened(world, start=4) as shown:
        for step, task, loss in ((5, "sort", 0.5), (6, "fill", 2.0), (7, "sort", 0.5), (8, "fill", 2.0)):
            shown.updated(step, updated(task, loss), [])
    assert capsys.readouterr().err.splitlines() == [
        "finetune step 6/8 (0.18 steps/s): sort 0.500, fill 2.000",
        "finetune step 8/8 (1.00 steps/s): sort 0.500, fill 2.000",
    ]


def test_a_terminal_gets_a_table_above_a_bar(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(telemetry.sys.stderr, "isatty", lambda: True, raising=False)
    with opened(world) as shown:
        shown.updated(1, updated("sort", 0.25), [], samples_per_second=1234.5, of_peak=0.41)
        shown.updated(2, updated("sort", 0.25), [], samples_per_second=1300.0, of_peak=0.42)
        shown.updated(3, updated("fill", 2.0), [])
        shown.evaluated(3, Result("sort", "toy", "dev", {"accuracy": 0.75}, items=4, queries=4))
        shown.message("step 3: [sort] on toy")
    written = capsys.readouterr().err
    rows = [line.split() for line in written.splitlines()]
    assert ["sort", "2", "0.250", "1,300.0", "42%", "accuracy", "0.750"] in rows
    assert ["fill", "1", "2.000", "0.0", "0%"] in rows
    assert "3/8" in written and "step 3: [sort] on toy" in written


def test_other_ranks_write_and_show_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(world, enabled=False) as silent:
        silent.started(0, world=2)
        silent.updated(8, updated("sort", float("nan")), [])
        silent.event("data", 8, "the data has changed")
    assert capsys.readouterr().err == "" and not world.run().exists()
