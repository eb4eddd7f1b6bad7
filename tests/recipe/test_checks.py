"""What only plugins can say about a recipe, said with the same places as everything else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from skillnet_cli.api import UserError
from skillnet_cli.plugins import Registry, load_registry
from skillnet_cli.recipe import load_recipe
from tests.workbench import TOY, document


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.syspath_prepend(TOY)
    monkeypatch.setenv("SKILLNET_PLUGINS", "toy")
    yield load_registry.__wrapped__()


def complaint(folder: Path, registry: Registry, **changes: Any) -> str:
    path = folder / "r.toml"
    path.write_text(tomli_w.dumps(document(**changes)), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_recipe(path, registry=registry)
    return str(caught.value).replace(f"{folder}/", "")


TASK = {"datasets": ["toy"], "batch": 8}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a task misspelt": (
        {"finetune__tasks": {"sorte": TASK}},
        ": finetune.tasks.sorte: unknown task 'sorte': did you mean 'sort'?",
    ),
    "a task of a plugin that is not installed": (
        {"finetune__tasks": {"asr": TASK}},
        ": finetune.tasks.asr: unknown task 'asr': pip install skillnet-sound",
    ),
    "a frozen part misspelt": (
        {"train__freeze": ["shared", "skill:leters"]},
        ": train.freeze.1: the model has no part 'skill:leters': did you mean 'skill:letters'?",
    ),
    "a frozen part that a stage's tasks do not have": (
        {"finetune__freeze": ["task:sorted"]},
        ": finetune.freeze.0: the model has no part 'task:sorted': did you mean 'task:sort'?",
    ),
    "a frozen skill where nothing is routed": (
        {"model__routing": "dense", "train__freeze": ["skill:waves"]},
        ": train.freeze.0: the model has no part 'skill:waves'",
    ),
    "a frozen part where nothing is shared": (
        {"model__routing": "separate", "train__freeze": ["shared"]},
        ": train.freeze.0: the model has no part 'shared': it has task:",
    ),
    "a skill misspelt": (
        {"model__embedders": {"leters": {}}},
        ": model.embedders.leters: unknown skill 'leters': did you mean 'letters'?",
    ),
    "a key of a plugin misspelt": (
        {"model__embedders": {"letters": {"longst": 5}}},
        ": model.embedders.letters.longst: unknown key: did you mean 'longest'?",
    ),
    "a value that a plugin refuses": (
        {"model__embedders": {"waves": {"longest": -5}}},
        ": model.embedders.waves.longest: must be greater than 0, not -5",
    ),
    "a set of another task": (
        {"finetune__tasks": {"match": {**TASK, "datasets": ["toy-sorted"]}}},
        ": finetune.tasks.match.datasets.toy-sorted: this data set feeds sort, and has no waves",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_that_plugins_find(name: str, tmp_path: Path, registry: Registry) -> None:
    changes, expected = WRONG[name]
    message = complaint(tmp_path, registry, **changes)
    assert message.startswith("r.toml:") and expected in message


def test_plugins_mistakes_come_together_with_all_others(tmp_path: Path, registry: Registry) -> None:
    changes = {"finetune__tasks": {"sorte": TASK}, "model__embedders": {"waves": {"long": 5}}, "seed": -1}
    lines = complaint(tmp_path, registry, **changes).splitlines()
    assert len(lines) == 4 and lines[0] == "3 mistakes in r.toml"


def test_wrong_tables_do_not_stop_the_other_checks(tmp_path: Path, registry: Registry) -> None:
    changes = {"finetune": {"tasks": {"sorte": 3}}, "pretrain": 5, "model__embedders": {"waves": 7, "wave": {}}}
    message = complaint(tmp_path, registry, **changes)
    assert "pretrain: must be a table" in message and "embedders.waves: must be a table" in message
    assert "unknown task 'sorte'" in message and "unknown skill 'wave'" in message


def test_skills_that_tasks_need_get_their_plugins_defaults(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "r.toml"
    path.write_text(tomli_w.dumps(document(model__embedders={"letters": {"longest": 9}})), encoding="utf-8")
    recipe = load_recipe(path, registry=registry)
    assert recipe.model.embedders == {"letters": {"longest": 9}, "waves": {}, "marks": {}}
