"""``recipes/mini.toml`` on real files: its sets made by the commands at its head, then 30 updates of two processes."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from tests.verbs import Terminal

PACKS = os.environ.get("SKILLNET_TEST_PACKS")
MINI = Path(__file__).parents[2] / "recipes" / "mini.toml"


@pytest.mark.soak
@pytest.mark.skipif(not PACKS, reason="SKILLNET_TEST_PACKS names no folder of real data")
def test_its_sets_are_made_as_it_says_and_train(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    head = MINI.read_text(encoding="utf-8").split("The same from the official sets")[0]
    commands = [line.lstrip("# ") for line in head.splitlines() if line.startswith("#   skillnet prepare ")]
    for command in commands:
        terminal.succeed(*shlex.split(command.replace("$FROM", str(PACKS)))[1:])
    plan = json.loads(terminal.succeed("pretrain", MINI, "--plan", "--json"))
    assert plan["missing"] == [] and plan["problems"] == []
    terminal.succeed("pretrain", MINI, "--nproc", "2", "--set", "pretrain.steps=30")
    lines = (tmp_path / "runs/mini/pretrain/metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert {row["task"] for row in rows} == set(plan["tasks"]) and all(row["loss"] > 0 for row in rows)
