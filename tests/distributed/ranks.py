"""Processes that train together, started one by one as torchrun or srun start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from skillnet_cli.recipe import Recipe
from tests.ranks import free_port
from tests.workbench import World

ONE_RANK = Path(__file__).parent / "one_rank.py"


def arguments(world: World, recipe: Recipe, run: str) -> str:
    """What ``train_toy.py`` is given."""
    given: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "stage": "finetune",
        "run": str(world.run(run)),
        "roots": [str(root) for root in world.roots],
        "processes": {},
    }
    return json.dumps(given)


def start_ranks(
    world: World, recipe: Recipe, run: str, count: int = 2, **environment: str
) -> list[subprocess.Popen[str]]:
    """``count`` ranks with torchrun's variables, each a process of its own."""
    port = str(free_port())
    return [
        start_one(
            world, recipe, run, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count),
            LOCAL_WORLD_SIZE=str(count), MASTER_ADDR="localhost", MASTER_PORT=port, **environment,
        )
        for rank in range(count)
    ]  # fmt: skip


def start_one(world: World, recipe: Recipe, run: str, **environment: str) -> subprocess.Popen[str]:
    """One process with these variables."""
    command = [sys.executable, str(ONE_RANK), arguments(world, recipe, run)]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=world.folder, env={**os.environ, **environment}
    )


def ends(processes: list[subprocess.Popen[str]], timeout: float = 120) -> list[tuple[int, str]]:
    """(exit code, standard error) of each."""
    return [(process.wait(timeout), (process.stderr and process.stderr.read()) or "") for process in processes]
