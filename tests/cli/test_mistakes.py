"""What users get wrong: one clear line on standard error, exit code 2, nothing half made; failing machines: code 1."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.cli import app
from skillnet_cli.cli.prepare import dataset
from tests.distributions import Site
from tests.inference.world import World


@pytest.fixture
def trained(world: World) -> World:
    """Sets, a model in a run, and files to be wrong about."""
    world.prepare("pairs")
    world.save_run()
    for name, content in [("a.hum", b"abc"), ("empty.hum", b""), ("a.lone", b"abc"), ("notes.txt", b"\x00\xff\x00")]:
        (world.folder / name).write_bytes(content)
    (world.folder / "nothing").mkdir()
    (world.folder / "gbk.toml").write_bytes('name = "词"'.encode("gbk"))
    (world.folder / "typo.toml").write_text('name = "x"\n[model]\nlayer = 3\n')
    (world.folder / "table.csv").write_text("picture,word\na.shape,x\n")
    return world


REMARKS = ("skillnet: using ", "skillnet: preparing ")


def complaint(world: World, *words: str, code: int = 2, **env: str) -> str:
    """The one line that a wrong command prints; nothing else is printed."""
    printed, remarks = world.skillnet(*words, code=code, env=env)
    assert printed == ""
    lines = [line for line in remarks.splitlines() if not line.startswith(REMARKS)]
    assert len(lines) == 1 and lines[0].startswith("skillnet: error: "), remarks
    return lines[0].removeprefix("skillnet: error: ")


MISTAKES = [
    ("transcrib a.hum", "No such command 'transcrib'. Did you mean 'transcribe'?"),
    ("eval", "Missing option '--task'."),
    ("eval --task kind --tsk x", "No such option: --tsk"),
    ("eval --task kind --limit none", "Invalid value for '--limit': must be a whole number, not 'none'"),
    ("eval --task kind --limit 0", "Invalid value for '--limit': must be at least 1, not '0'"),
    ("eval --task kin", "unknown task 'kin': did you mean 'kind'?"),
    ("eval --task t2i", "unknown task 't2i': pip install skillnet-image"),
    ("eval --task kind --split pears", "did you mean 'pairs'?"),
    ("eval --task kind --split pairs:dev", "set 'pairs' has no split 'dev': it has test, train"),
    ("eval --task hear", "no prepared set 'hums'"),
    ("transcribe nowhere.hum", "nowhere.hum: no such file"),
    ("transcribe empty.hum", "empty.hum: it holds no sound"),
    ("transcribe a.hum --task kind", "no task 'kind' that transcribes"),
    ("transcribe a.hum a.hum --format srt", "--format srt takes one recording at a time, and 2 are named"),
    ("transcribe a.hum --format mp3", "'mp3' is not one of"),
    ("embed nothing", "nothing to embed in nothing: no file ends in"),
    ("embed nowhere", "'nowhere' is neither a file nor a folder, and there is no prepared set 'nowhere'"),
    ("embed a.lone", "no contrastive task of the model trained lone"),
    ("embed pairs --to nothing/../a.hum", "already exists and is not a collection"),
    ("search word", "is not a collection"),
    ("search word --in nothing", "nothing is not a collection"),
    ("prepare pears", "unknown data set 'pears': did you mean 'pairs'?"),
    ("prepare --seed 2", "name a data set"),
    ("prepare both --source x", "--source belongs to one data set; 'both' is pairs, hums"),
    ("prepare broken --source mistake", "mistake: there is no such folder"),
    ("prepare hums --out data/pairs", "data/pairs holds the set 'pairs'"),
    ("prepare table nowhere.csv --task kind", "table 'nowhere.csv'"),
    ("prepare table table.csv --task find --columns shape=file", "no column 'file'"),
    ("prepare table table.csv --task find --columns shape", "--columns: 'shape' is not FIELD=COLUMN"),
    ("prepare table table.csv --task find --shares train=much", "--shares: could not convert"),
    ("prepare vocab --modality wort --from pairs --out v.txt", "unknown skill 'wort': did you mean 'word'?"),
    ("prepare vocab --modality word --from notes.txt --out v.txt", "notes.txt: line 1 "),
    ("prepare vocab --modality shape --from pairs --out v.txt", "skill 'shape' uses no vocabulary"),
    ("pretrain nowhere.toml", "cannot read the recipe nowhere.toml"),
    ("finetune gbk.toml", "gbk.toml:1: not UTF-8 text"),
    ("inspect --recipe nowhere.toml", "cannot read the recipe nowhere.toml"),
    ("report nothing", "nothing is not a run"),
    ("export --to new", "choose what to keep with --skills, --tasks or both"),
    ("export --skills wrod --to new", "unknown skill 'wrod': did you mean 'word'?"),
    ("export --tasks find --skills word --to new", "task 'find' needs the skill 'shape', which is not among word"),
    ("export --tasks hear --to runs", "runs already exists: choose another folder"),
    ("skills list --checkpoint nowhere", "nowhere: there is no such folder"),
    ("skills list --checkpoint no/where", "no/where: no such folder, nor a repository that can be read"),
    ("skills graft word --to new", "already has the skill 'word'"),
    ("skills graft video --to new", "unknown skill 'video': pip install skillnet-video"),
    ("skills graft lone --from x --like word --to new", "--from takes the skill as it is"),
    ("skills graft lone --tasks guess --to new", "name that with --from"),
    ("skills diff runs/small/model nothing", "index.json: the model's weights are missing"),
    ("inspect --checkpoint nowhere", "nowhere"),
    ("eval --task kind --checkpoint nothing", "nothing: not a model: config.json is missing"),
    ("eval --task kind --checkpoint nowhere", "nowhere: there is no such folder"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_is_one_line(trained: World, words: str, said: str) -> None:
    before = sorted(trained.folder.rglob("*"))
    found = complaint(trained, *words.split())
    assert said in found
    left = [path for path in trained.folder.rglob("*") if path not in before and path.suffix != ".partial"]
    assert [path for path in left if path.is_file()] == []


def test_a_recipe_is_wrong_at_a_line(trained: World) -> None:
    remarks = trained.skillnet("finetune", "typo.toml", code=2)[1]
    assert "typo.toml:3: model.layer" in remarks and "did you mean 'layers'?" in remarks


def test_no_model_at_all(world: World) -> None:
    assert "no model in runs/*/model: name one with --checkpoint" in complaint(world, "transcribe", __file__)


def test_a_truncated_checkpoint(trained: World) -> None:
    weights = trained.run / "model" / "model-skill-hum.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    cut_off = (
        "model-skill-hum.safetensors: damaged: it ends inside tensor 'encoder.blocks.1.attention.skills.hum.weight'"
    )
    assert cut_off in complaint(trained, "transcribe", "a.hum")
    trained.skillnet("embed", "pairs", "--to", "c")  # opens other files
    weights.unlink()
    assert "model-skill-hum.safetensors: the file is missing; tensor" in complaint(trained, "transcribe", "a.hum")
    for file in (trained.run / "model").glob("model*"):
        file.unlink()
    assert "index.json: the model's weights are missing" in complaint(trained, "transcribe", "a.hum")


def rewrite_config(world: World, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change a model's configuration as a tool would that knows of no checksum."""
    config, index = (world.run / "model" / name for name in ("config.json", "model.safetensors.index.json"))
    config.write_text(json.dumps(change(json.loads(config.read_text()))))
    listed = json.loads(index.read_text())
    listed["metadata"].pop("config")
    index.write_text(json.dumps(listed))


def test_a_checkpoint_of_another_size(trained: World) -> None:
    rewrite_config(trained, lambda facts: {**facts, "ffn": 64})
    assert "has shape" in complaint(trained, "transcribe", "a.hum")


def test_vectors_of_another_model(trained: World) -> None:
    trained.skillnet("embed", "pairs", "--to", "c")
    trained.save_run(seed=2)
    for words in (["search", "x", "--in", "c"], ["embed", "pairs", "--to", "c"]):
        assert "collection c holds vectors of shape that other weights" in complaint(trained, *words)


def test_a_query_that_cannot_be_read(trained: World) -> None:
    trained.skillnet("embed", "pairs", "--to", "c")
    assert "cannot search with an empty text" in complaint(trained, "search", "", "--in", "c")


def test_a_damaged_results_file(trained: World) -> None:
    (trained.run / "results.json").write_text("{")
    assert "results.json is not readable" in complaint(trained, "report")


def test_a_broken_plugin_stops_only_what_needs_it(
    trained: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "skillnet_image", raising=False)
    Site(tmp_path / "site").install("image", "import no_such_module_anywhere")
    env = {"SKILLNET_PLUGINS": "bytes,image"}
    printed, remarks = trained.skillnet("plugins", "--json", env=env)
    assert [bool(each["error"]) for each in json.loads(printed)["plugins"]] == [False, True]
    assert "plugin 'image' (skillnet-image) could not be loaded: ModuleNotFoundError" in remarks
    trained.skillnet("inspect", env=env)
    _, remarks = trained.skillnet("eval", "--task", "t2i", code=2, env=env)
    assert "skillnet-image brings it and could not be loaded" in remarks.splitlines()[-1]
    assert "could not be loaded" in complaint(trained, "plugins", SKILLNET_STRICT_PLUGINS="1", **env)
    assert "SKILLNET_PLUGINS names 'nobody'" in complaint(trained, "plugins", SKILLNET_PLUGINS="nobody")


def test_a_missing_plugin_is_named(trained: World) -> None:
    def with_video(facts: dict[str, Any]) -> dict[str, Any]:
        video = {**facts["skills"]["word"], "plugin": "skillnet-video"}
        return {**facts, "skills": {**facts["skills"], "video": video}}

    rewrite_config(trained, with_video)
    missing = "skill 'video' needs the plugin skillnet-video, which is not installed: pip install skillnet-video"
    assert missing in complaint(trained, "export", "--skills", "video", "--to", "smaller")
    trained.skillnet("transcribe", "a.hum")  # needs no video


def test_a_failing_job_is_code_1(trained: World) -> None:
    _, remarks = trained.skillnet("prepare", "broken", code=1)
    assert remarks.splitlines()[-1] == "skillnet: error: the machine is on fire"


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 1)], ids=["ctrl-c", "disk"]
)
def test_interrupts_and_full_disks(
    world: World, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def stop(job: object) -> None:
        raise error

    monkeypatch.setattr(dataset, "resolve", lambda reference: stop)
    assert "No space left" in world.skillnet("prepare", "pairs", code=code)[1] or code == 130


def test_a_bug_is_not_hidden(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(job: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(dataset, "resolve", lambda reference: bug)
    with pytest.raises(ZeroDivisionError):
        world.skillnet("prepare", "pairs")


def test_main_leaves_with_the_code(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["skillnet", "nothing-like-that"])
    with pytest.raises(SystemExit) as left:
        app.main()
    assert left.value.code == 2
