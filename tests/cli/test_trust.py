"""What a model's folder, a run and a recipe say never chooses the code that runs: only installed plugins do."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModel

from skillnet_cli import objectives
from skillnet_cli.api import UserError
from skillnet_cli.evaluation.metrics import scorer
from skillnet_cli.plugins import load_registry
from tests.cli.test_verbs import RECIPE
from tests.inference.world import World

EVIL = "from pathlib import Path\nPath({canary!r}).touch()\ndef attribute(*given, **more):\n    return 0.0\n"
STRINGS: dict[str, Mapping[str, Any]] = {
    "an objective": {"objective": "evil_module:attribute"},
    "a module as an objective": {"objective": "evil_module"},
    "a metric": {"metrics": ["evil_module:attribute"]},
    "a metric behind a good one": {"metrics": ["accuracy", "evil_module:attribute"]},
}
ROUTES = {
    "inspect": "inspect --checkpoint MODEL",
    "inspect, one task": "inspect --checkpoint MODEL --task kind",
    "inspect, the newest run": "inspect",
    "eval": "eval --checkpoint MODEL --task kind --split pairs",
    "export": "export --checkpoint MODEL --skills word --to out",
    "export, one task": "export --checkpoint MODEL --tasks kind --to out",
    "skills list": "skills list --checkpoint MODEL",
    "skills graft --from": "skills graft word --checkpoint base --from MODEL --to out",
    "skills graft": "skills graft word --checkpoint MODEL --to out",
    "finetune": "finetune tiny.toml --set finetune.start_from=MODEL",
    "embed": "embed pairs --checkpoint MODEL",
    "search": "search aw --checkpoint MODEL --in c",
    "transcribe": "transcribe a.hum --checkpoint MODEL",
}


@pytest.fixture
def hostile(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A run with a sound model and two copies of it, and a module that leaves a canary where it is imported."""
    world.prepare("pairs")
    world.prepare("hums")
    model = world.save_run()
    world.skillnet("export", "--tasks", "hear", "--checkpoint", str(model), "--to", "base")
    shutil.copytree(model, "sound")
    (world.folder / "a.hum").write_bytes(b"abcabc")
    (world.folder / "tiny.toml").write_text(re.sub(r"\[model\].*?\n(?=\[)", "", RECIPE, flags=re.DOTALL))  # the start's
    (world.folder / "c").mkdir()
    modules = world.folder / "modules"
    modules.mkdir()
    (modules / "evil_module.py").write_text(EVIL.format(canary=str(world.folder / "canary")))
    monkeypatch.syspath_prepend(modules)
    monkeypatch.delitem(sys.modules, "evil_module", raising=False)
    return world


def altered(world: World, **changes: Any) -> Path:
    """The run's model, with other facts of its task ``kind`` in config.json."""
    path = world.run / "model" / "config.json"
    document = json.loads(path.read_text())
    document["tasks"]["kind"] |= changes
    path.write_text(json.dumps(document))
    return path.parent


def untouched(world: World) -> bool:
    return "evil_module" not in sys.modules and not (world.folder / "canary").exists()


@pytest.mark.parametrize("changes", STRINGS.values(), ids=STRINGS)
def test_no_verb_imports_what_a_model_names(hostile: World, changes: dict[str, Any]) -> None:
    model = altered(hostile, **changes)
    key = next(iter(changes))
    for route, words in ROUTES.items():
        printed, remarks = hostile.skillnet(*words.replace("MODEL", str(model)).split(), code=2)
        (line,) = [line for line in remarks.splitlines() if line.startswith("skillnet: error: ")]
        assert f"small/model/config.json: tasks.kind.{key}: no installed plugin brings the" in line, (route, line)
        assert "'evil_module" in line and line.endswith("install the plugin that does"), (route, line)
        assert untouched(hostile), route
        assert "Traceback" not in remarks and printed == "" and not Path("out").exists(), route


@pytest.mark.parametrize("changes", STRINGS.values(), ids=STRINGS)
def test_nor_do_the_auto_classes(hostile: World, changes: dict[str, Any]) -> None:
    model = altered(hostile, **changes)
    config = AutoConfig.from_pretrained(model)
    for open_ in (lambda: AutoModel.from_pretrained(model), lambda: AutoModel.from_pretrained("sound", config=config)):
        with pytest.raises(UserError, match="no installed plugin brings"):
            open_()
    if "objective" in changes:
        with pytest.raises(UserError, match="no installed plugin brings the objective 'evil_module"):
            AutoModel.from_config(config)
    assert untouched(hostile)


def test_nor_do_verbs_that_read_less_of_it_and_other_files_that_name_code(hostile: World) -> None:
    name = "evil_module:attribute"
    row = {"task": name, "set": name, "split": name, "metrics": {name: 1.0}, "items": 1, "queries": 1, "damaged": 0,
           "protocol": {"metrics": name}, "cases": [{"index": 0, "predicted": name, "reference": name}]}  # fmt: skip
    (hostile.run / "results.json").write_text(json.dumps({"results": [row, {**row, "task": "kind", "set": "pairs"}]}))
    manifest = hostile.data / "pairs" / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "choices": {"prepare": name}, "name": name, "licence": name}))
    hostile.skillnet("skills", "diff", "sound", str(altered(hostile, objective=name, metrics=[name])))
    hostile.skillnet("report", str(hostile.run))
    hostile.skillnet("data", "show", "pairs", "--html", "page.html")
    for text in (
        RECIPE.replace("tasks.find", f'tasks."{name}"'),
        RECIPE.replace("[model]", f'[init]\nword = "{name}"\n[model]'),
        RECIPE.replace("[train]", f'[model.embedders.word]\nreader = "{name}"\n[train]'),
        RECIPE.replace("batch = 6", f'batch = 6\nobjective = "{name}"'),
    ):
        Path("evil.toml").write_text(text)
        assert "evil.toml" in hostile.skillnet("recipes", "check", "evil.toml", code=2)[1]
    assert untouched(hostile)
    __import__("evil_module")
    assert not untouched(hostile), "it would have"


OWN = """
from skillnet_cli.api import Task, hookimpl

API_VERSION = 2


@hookimpl
def skillnet_tasks():
    return [
        Task("cloze", (("word",),), "own_parts:Cloze", metrics=("accuracy",)),
        Task("letter", (("word",),), "classification", target="label", metrics=("own_parts:share", "accuracy")),
    ]
"""
PARTS = '''
from skillnet_cli.objectives.masked_tokens import MaskedTokens


class Cloze(MaskedTokens):
    """An objective that only this plugin has."""


def share(predictions, references):
    return sum(map(str.__eq__, predictions, references)) / len(references)
'''
OWN_RECIPE = RECIPE[: RECIPE.index("[finetune.tasks.find]")] + "".join(
    f'[finetune.tasks.{task}]\ndatasets = ["mine"]\nbatch = 4\n' for task in ("cloze", "letter")
)


def test_a_plugins_own_objective_and_metric_work_in_every_verb(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.folder / "c").mkdir()
    modules = world.folder / "modules"
    (modules / "skillnet_own-1.0.dist-info").mkdir(parents=True)
    (modules / "skillnet_own-1.0.dist-info" / "METADATA").write_text("Name: skillnet-own\nVersion: 1.0\n")
    (modules / "skillnet_own-1.0.dist-info" / "entry_points.txt").write_text("[skillnet]\nown = skillnet_own\n")
    (modules / "skillnet_own.py").write_text(OWN)
    (modules / "own_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(modules)
    monkeypatch.setenv("SKILLNET_PLUGINS", "bytes,own")
    world.prepare("pairs")
    shutil.copytree(world.data / "pairs", world.data / "mine")
    Path("own.toml").write_text(OWN_RECIPE)
    world.skillnet("finetune", "own.toml", "--data", "data")
    world.skillnet("finetune", "own.toml", "--set", "name=more", "--set", "finetune.start_from=runs/tiny/model")
    model = "runs/more/model"
    assert json.loads(Path(model, "config.json").read_text())["tasks"]["cloze"]["objective"] == "own_parts:Cloze"
    assert world.answer("inspect", "--checkpoint", model)["tasks"].keys() == {"cloze", "letter"}
    for task, metric in (("cloze", "accuracy"), ("letter", "own_parts:share")):
        (result,) = world.answer("eval", "--checkpoint", model, "--task", task, "--split", "mine")["results"]
        assert 0 <= result["metrics"][metric] <= 1 and result["items"] == 18
    assert result["metrics"]["own_parts:share"] == result["metrics"]["accuracy"]
    world.skillnet("export", "--checkpoint", model, "--tasks", "cloze", "--to", "part")
    world.skillnet("skills", "list", "--checkpoint", "part")
    assert type(AutoModel.from_pretrained("part").objectives["cloze"]).__name__ == "Cloze"
    monkeypatch.setenv("SKILLNET_PLUGINS", "bytes")
    _, remarks = world.skillnet("inspect", "--checkpoint", "part", code=2)
    assert (
        "part/config.json: tasks.cloze.objective: no installed plugin brings the objective 'own_parts:Cloze'" in remarks
    )


def test_the_places_that_import_check_for_themselves(world: World) -> None:
    for kind, load in (("objective", objectives.load), ("metric", scorer)):
        with pytest.raises(UserError, match=f"no installed plugin brings the {kind} 'os:getcwd'"):
            load("os:getcwd", load_registry())
