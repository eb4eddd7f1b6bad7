"""``[init]`` in a recipe: how it may be written, and what is wrong with it, with its line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from skillnet_cli.plugins import Registry, load_registry
from skillnet_cli.recipe import Recipe, load_recipe
from skillnet_cli.recipe.toml import parse_toml
from tests.pretrained import save_toy
from tests.recipe.test_checks import complaint
from tests.workbench import TOY, document


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.syspath_prepend(TOY)
    monkeypatch.setenv("SKILLNET_PLUGINS", "toy")
    yield load_registry.__wrapped__()


@pytest.fixture
def donor(tmp_path: Path) -> str:
    return str(save_toy(tmp_path / "donor"))


def test_both_ways_of_writing_come_back_from_a_runs_recipe(tmp_path: Path, registry: Registry, donor: str) -> None:
    path = tmp_path / "r.toml"
    init = {"letters": donor, "marks": {"from": "someone/model@refs/pr/1", "shared": False}}
    path.write_text(tomli_w.dumps(document(init=init)), encoding="utf-8")
    recipe = load_recipe(path, registry=registry)
    assert (recipe.init["letters"].source, recipe.init["letters"].shared) == (donor, True)
    assert (recipe.init["marks"].source, recipe.init["marks"].shared) == ("someone/model@refs/pr/1", False)
    written = recipe.model_dump(mode="json", exclude_none=True)
    assert written["init"] == init
    assert Recipe.model_validate(parse_toml(tomli_w.dumps(written))).init == recipe.init


def wrong(name: str, donor: str, folder: Path) -> dict[str, Any]:
    """A recipe's changes, by what is wrong with them."""
    narrow = save_toy(folder / "narrow", hidden=8, norm="post") if name == "other sizes" else ""
    changes: dict[str, dict[str, Any]] = {
        "no such skill": {"init": {"letter": donor}},
        "a skill that reads none": {"init": {"waves": donor}},
        "no folder": {"init": {"letters": "./nowhere/at/all"}},
        "an empty folder": {"init": {"letters": str(folder)}},
        "other sizes": {"init": {"letters": str(narrow)}},
        "another norm": {"init": {"letters": donor}, "model__norm": "post"},
        "two for the shared": {"init": {"letters": donor, "marks": donor}},
        "a key misspelt": {"init": {"letters": {"from": donor, "share": False}}},
        "nothing to start from": {"init": {"letters": {"shared": False}}},
    }
    return changes[name]


SAID = {
    "no such skill": "init.letter: no task of the recipe uses this skill",
    "a skill that reads none": "init.waves: the plugin of skill 'waves' reads no pretrained models",
    "no folder": "init.letters: './nowhere/at/all' is neither a folder nor a repository on the hub (OWNER/NAME)",
    "an empty folder": "init.letters: not a pretrained model: ",
    "other sizes": "init.letters: needs model.hidden = 8, and the recipe has 16",
    "another norm": 'init.letters: needs model.norm = "pre", and the recipe has "post"',
    "two for the shared": "init.marks: would start the shared parts, as init.letters does: write { from",
    "a key misspelt": "init.letters.share: unknown key: did you mean 'shared'?",
    "nothing to start from": "init.letters.from: is missing",
}


@pytest.mark.parametrize("name", SAID)
def test_mistakes_are_told_with_their_line(name: str, tmp_path: Path, registry: Registry, donor: str) -> None:
    changes = wrong(name, donor, tmp_path)
    lines = tomli_w.dumps(document(**changes)).splitlines()
    message = complaint(tmp_path, registry, **changes)
    told = next(line for line in message.splitlines() if line.startswith("r.toml:"))
    number, _, text = told.removeprefix("r.toml:").partition(": ")
    assert text.startswith(SAID[name])
    last = text.partition(":")[0].removeprefix("init.").removesuffix(".from")
    assert last.rpartition(".")[2] in lines[int(number) - 1]


def test_a_hubs_model_is_not_looked_for_yet(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "r.toml"
    path.write_text(tomli_w.dumps(document(init={"letters": "nobody/nothing"})), encoding="utf-8")
    assert load_recipe(path, registry=registry).init["letters"].source == "nobody/nothing"
