"""A mistake that no model is needed to see is said before torch is imported, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.inference.world import World

ASKED = """
import json, sys, time
from skillnet_cli.cli.app import run
code = run(json.loads(sys.argv[1]))
heavy = sorted({"torch", "transformers", "lancedb", "torchvision"} & set(sys.modules))
print(json.dumps([code, heavy, time.process_time()]))
"""
MISTAKES = {
    "eval --task kws": "unknown task 'kws'",
    "eval --task fnd": "did you mean 'find'?",
    "eval --task find --split nowhere": "no prepared set 'nowhere'",
    "eval --task find --checkpoint nowhere": "nowhere: there is no such folder",
    "inspect --checkpoint nowhere": "nowhere: there is no such folder",
    "inspect --task fnd": "did you mean 'find'?",
    "inspect --recipe nowhere": "no recipe 'nowhere'",
    "export --tasks fnd --to out": "did you mean 'find'?",
    "export --skills wrd --to out": "did you mean 'word'?",
    "skills list --checkpoint nowhere": "nowhere: there is no such folder",
    "skills diff nowhere runs/small/model": "nowhere: there is no such folder",
    "skills graft wrd --to out": "did you mean 'word'?",
    "search aw --in nowhere": "nowhere is not a collection",
    "search aw --skill wrd": "did you mean 'word'?",
    "search ./missing.shape": "./missing.shape: there is no such file",
    "search missing.shape": "missing.shape: there is no such file",
    "search runs": "runs is a folder",
    "search aw --checkpoint nowhere": "nowhere: there is no such folder",
    "embed nowhere": "'nowhere' is neither a file nor a folder",
    "embed runs --checkpoint nowhere": "nowhere: there is no such folder",
    "transcribe missing.wav": "missing.wav",
    "report nowhere": "nowhere is not a run",
    "pretrain nowhere.toml": "nowhere.toml",
    "recipes check nowhere": "no recipe 'nowhere'",
    "data show nowhere": "no prepared set 'nowhere'",
    "prepare nowhere": "unknown data set 'nowhere'",
}


@pytest.mark.parametrize(("line", "said"), MISTAKES.items(), ids=MISTAKES)
def test_u06_a_mistake_is_said_before_anything_heavy_is_imported(line: str, said: str, world: World) -> None:
    model = world.folder / "runs" / "small" / "model"
    model.mkdir(parents=True)
    tasks = {"find": {}, "kind": {}, "hear": {}}
    (model / "config.json").write_text(json.dumps({"skills": {"word": {}, "hum": {}, "shape": {}}, "tasks": tasks}))
    command = [sys.executable, "-c", ASKED, json.dumps(line.split())]
    done = subprocess.run(command, cwd=world.folder, capture_output=True, encoding="utf-8", timeout=60)
    code, heavy, _ = json.loads(done.stdout)
    assert (code, heavy) == (2, []), done.stderr
    assert said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("odd", [5, None, "tasks", [["find"]], True], ids=repr)
@pytest.mark.parametrize("key", ["tasks", "skills"])
def test_u06_names_of_an_odd_shape_are_left_to_who_opens_the_model(key: str, odd: object, world: World) -> None:
    config = world.save_run() / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), key: odd}))
    for words in (
        ("eval", "--task", "find"),
        ("search", "aw", "--skill", "shape"),
        ("export", "--skills", "word", "--to", "o"),
    ):
        said = world.skillnet(*words, code=2)[1]
        assert sum(line.startswith("skillnet: error: ") for line in said.splitlines()) == 1
