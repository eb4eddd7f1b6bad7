from __future__ import annotations

import io
from contextlib import ExitStack

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from skillnet_cli.engine import telemetry as display
from skillnet_cli.engine.telemetry import Bar, Lines, TaskTable, open_display


def test_plain_lines_come_now_and_then_and_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 105.0, 111.0, 112.0, 113.0])
    monkeypatch.setattr(display.time, "monotonic", lambda: next(clock))
    with ExitStack() as stack:
        shown = open_display("finetune", 4, 8, stack)
        assert isinstance(shown, Lines)
        for step in (5, 6, 7, 8):
            shown.step(step, {"sort": 0.5, "fill": 2.0})
    assert capsys.readouterr().err.splitlines() == [
        "finetune step 6/8 (0.18 steps/s): sort 0.500, fill 2.000",
        "finetune step 8/8 (1.00 steps/s): sort 0.500, fill 2.000",
    ]


def test_a_terminal_gets_a_bar() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100)
    with Progress(TextColumn("{task.completed}/{task.total} {task.fields[losses]}"), console=console) as progress:
        bar = Bar(progress, progress.add_task("finetune", total=8, losses=""))
        bar.step(3, {"sort": 0.25})
        bar.note("step 3: [sort] on toy")
    assert "3/8 sort 0.250" in written.getvalue() and "step 3: [sort] on toy" in written.getvalue()


def test_a_terminal_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display.sys.stderr, "isatty", lambda: True, raising=False)
    with ExitStack() as stack:
        assert isinstance(open_display("finetune", 0, 8, stack), Bar)


def test_the_table_has_a_row_for_each_task() -> None:
    table = TaskTable()
    with Progress(disable=True) as progress:
        bar = Bar(progress, progress.add_task("finetune", total=8, losses=""), table)
        bar.trained("sort", {"samples_per_second": 1234.5, "of_peak": 0.41})
        bar.trained("sort", {"samples_per_second": 1300.0, "of_peak": 0.42})
        bar.trained("fill", {})
        bar.measured("sort", "accuracy 0.750")
        bar.step(3, {"sort": 0.25})
    console = Console(file=io.StringIO(), width=100)
    console.print(table)
    rows = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert ["sort", "2", "0.250", "1,300.0", "42%", "accuracy", "0.750"] in rows
    assert ["fill", "1", "0.0", "0%"] in rows
