"""``skillnet verify resume`` on the toy: a training that goes on is the same, one with planted noise is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.verbs import Terminal
from tests.workbench import TOY, World, tasks, toy_world

SETTINGS: dict[str, Any] = {
    "finetune__tasks": tasks("sort", "fill", "match", "spell", batch=16),
    "model__dropout": 0.1,
    "train__workers": 1,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with toy_world(tmp_path_factory.mktemp("verify")) as world:
        yield world


def terminal(world: World, **environment: str) -> Terminal:
    toys = {"PYTHONPATH": str(TOY), "SKILLNET_PLUGINS": "toy", "SKILLNET_DATA": str(world.roots[0])}
    return Terminal(world.folder, {**toys, **environment})


@pytest.mark.parametrize("nproc", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_training_goes_on_to_the_bit(small: World, nproc: int) -> None:
    words = ["verify", "resume", small.write_recipe(**SETTINGS), "--stage", "finetune", "--steps", "15"]
    answer = terminal(small, TOY_FAULT="slow 0 5").type(*words, "--nproc", str(nproc), "--json")
    assert answer.code == 0, answer.err
    verdict = json.loads(answer.out)
    assert verdict["same"] and verdict["differences"] == []
    assert verdict["steps"] == verdict["rows"] == 15 and set(verdict["tasks"]) == {"sort", "fill", "match", "spell"}
    assert 0 < verdict["resumed_from"] <= verdict["killed_after"] < 15
    assert verdict["tensors"]["model"] > 20 and verdict["values"]["optimizer"] > verdict["values"]["model"]
    assert not (small.folder / "runs").exists()


def test_a_training_that_does_not_is_told_with_the_first_difference(small: World) -> None:
    words = ["verify", "resume", small.write_recipe(**SETTINGS), "--stage", "finetune", "--steps", "15"]
    answer = terminal(small, TOY_FAULT="noise 0 5").type(*words)
    assert answer.code == 1 and "Traceback" not in answer.err
    assert answer.err.splitlines()[-1].endswith("differences: the resumed run differs from the undisturbed one")
    first = next(line for line in answer.out.splitlines() if line.startswith("  "))
    assert " undisturbed, " in first and first.startswith("  step ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--stage", "finetune", "--set", "finetune.tasks.sort.batch=7", "--nproc", "2"], "is not divisible by the 2"),
        (["--stage", "pretune"], "--stage pretune: the recipe has pretrain and finetune"),
    ],
)
def test_what_cannot_be_verified_is_one_line(small: World, words: list[str], said: str) -> None:
    answer = terminal(small).type("verify", "resume", small.write_recipe(**SETTINGS), *words)
    assert answer.code in (1, 2) and said in answer.err.splitlines()[-1] and "Traceback" not in answer.err


def test_a_recipe_may_be_a_shipped_ones_name(small: World) -> None:
    answer = terminal(small).type("verify", "resume", "dmo")
    assert (answer.code, "did you mean 'demo'?" in answer.err) == (2, True)
