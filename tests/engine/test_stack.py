"""How far it is from the command to the first product of matrices: whoever debugs a step reads this stack."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import skillnet_cli
from skillnet_cli.cli.train import stage_command
from tests.workbench import World, tasks

OURS = Path(skillnet_cli.__file__).parent
MOST = 13


def test_from_the_command_to_a_projection_are_few_frames(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only frames of this project count, not torch's, and not those that check shapes in tests."""
    stacks: list[list[str]] = []
    original = nn.Linear.forward

    def linear(self: nn.Linear, *inputs: Any) -> Any:
        frames = [each for each in traceback.extract_stack() if OURS in Path(each.filename).parents]
        functions = [each for each in frames if not each.name.startswith("<")]  # <listcomp> is no frame since 3.12
        lines = [f"{Path(each.filename).relative_to(OURS)}:{each.lineno} {each.name}" for each in functions]
        if lines[-1].startswith("model/encoder.py") and any(line.endswith(" update") for line in lines):
            stacks.append(lines)  # of an update: the banner's FLOPs come from a forward pass of their own
        return original(self, *inputs)

    monkeypatch.setattr(nn.Linear, "forward", linear)
    recipe = world.write_recipe(finetune__steps=1, finetune__tasks=tasks("sort"))
    stage_command("finetune")(recipe, data=world.roots, runs=world.folder / "runs")
    print("\n".join(stacks[0]))
    assert len(stacks[0]) <= MOST, stacks[0]
