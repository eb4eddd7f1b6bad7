"""``--plan`` on the command line, for the paper's recipe at a width that a test has time for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skillnet_cli.cli.app import run
from skillnet_cli.engine.estimate import cost as dry

NARROW = [
    word
    for change in ("model.hidden=48", "model.ffn=96", "model.layers=3", "init={}", "model.embedders.sound.channels=8")
    for word in ("--set", change)
]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No prepared set is near; dry batches are small but where the paper's plan is asked for in full."""
    monkeypatch.chdir(tmp_path)
    if request.node.get_closest_marker("soak") is None:
        monkeypatch.setattr(dry, "WORK", 1e6)


def test_the_papers_plan_without_any_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pretrain", "paper", "--plan", "--on", "a100-40g:64", *NARROW]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "pretrain of paper: 1,000,000 updates at lr 1e-05 (linear, 10,000 to warm up)"
    assert "on 64 × a100-40g" in lines[1]
    (image,) = (line for line in lines if line.startswith(" image-text") and "8,192" in line)
    assert "2/13" in image and "not here" in image and "8,191" in image and "9.01" in image
    missing = [line for line in lines if line.startswith("missing: ")]
    assert len(missing) == 7 and all("no prepared set" in line for line in missing)  # labels come from fine-tuning's
    assert "ETA" in out and "checkpoints: " in out
    assert max(len(line.rstrip()) for line in lines if not line.startswith(("assumed", "missing"))) <= 100
    assert not Path("runs").exists()


def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["finetune", "paper", "--plan", "--json", "--on", "h100-80g:8", *NARROW]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["ranks"] == 8 and list(facts["tasks"]) == ["tc", "asr", "t2i", "t2v", "t2c"]
    assert facts["tasks"]["t2i"]["negatives"] == 3_071 and facts["tasks"]["t2i"]["items"] is None
    assert facts["flops"] > 0 and facts["seconds"] > 0 and len(facts["missing"]) == 6


def test_a_batch_that_does_not_fit_the_ranks_is_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["finetune", "paper", "--plan", "--on", "a100-40g:48", *NARROW]) == 2
    assert "problem: finetune.tasks.tc: batch = 512 is not divisible by the 48 processes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--on", "a100-40g:64"], "add --plan"),
        (["--json"], "add --plan"),
        (["--plan", "--on", "a100"], "did you mean"),
    ],
)
def test_mistakes(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pretrain", "paper", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.soak
def test_the_paper_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    """At most a minute on two cores."""
    assert run(["pretrain", "paper", "--plan", "--on", "a100-40g:64", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["tasks"]["image-text"]["memory"]["replicate"] > 2 * 2**30
