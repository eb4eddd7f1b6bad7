"""Progress: items pass through unchanged; a bar for a person, lines for a log."""

from __future__ import annotations

import pytest

from skillnet_cli.data import progress
from skillnet_cli.data.progress import Progress, Silent, choose_progress


def chosen(monkeypatch: pytest.MonkeyPatch, watched: bool) -> Progress:
    """What is chosen where a person watches standard error, or nobody does."""
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: watched)
    return choose_progress()


def test_items_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (Silent, lambda: chosen(monkeypatch, True), lambda: chosen(monkeypatch, False)):
        assert list(make().track(iter("abc"), 3, "letters")) == ["a", "b", "c"]
        assert list(make().track(iter("abc"), None, "letters")) == ["a", "b", "c"]


def test_plain_lines_come_now_and_then_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    list(chosen(monkeypatch, False).track(range(6), 6, "items"))
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert lines[-1] == "items: 6 done" and lines[0] == "items: 3 of 6 (0.25 a second, 0:00:12 left)" and len(lines) < 6
    assert said.out == "", "standard output is for results"


def test_jobs_within_jobs_have_bars_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = chosen(monkeypatch, True)
    pairs = [(one, other) for one in bar.track("ab", 2, "outer") for other in bar.track("xy", 2, f"inner {one}")]
    assert pairs == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    assert "outer" in capsys.readouterr().err
