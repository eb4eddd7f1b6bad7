"""Every verb does its work from the command line, and ``--json`` is the only thing on standard output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.inference.world import World

RECIPE = """
name = "tiny"
[model]
layers = 1
hidden = 16
heads = 2
ffn = 32
[train]
precision = "fp32"
workers = 0
[finetune]
start_from = "fresh"
steps = 3
lr = 1e-3
[finetune.tasks.find]
datasets = ["pairs"]
batch = 6
[finetune.tasks.hear]
datasets = ["hums"]
batch = 2
"""


@pytest.fixture
def trained(world: World) -> World:
    """A world with sets and an untrained model in a run."""
    world.prepare("pairs")
    world.prepare("hums")
    world.save_run()
    return world


def test_prepare_makes_all_parts_and_leaves_what_is_whole(world: World) -> None:
    made = world.answer("prepare", "both")["sets"]
    assert [(each["name"], each["splits"], each["made"]) for each in made] == [
        ("pairs", {"test": 18, "train": 36}, True), ("hums", {"test": 6, "train": 6}, True),
    ]  # fmt: skip
    stamp = (world.data / "pairs" / "manifest.json").stat().st_mtime_ns
    again, remarks = world.skillnet("prepare", "both", "--json")
    assert [each["made"] for each in json.loads(again)["sets"]] == [False, False]
    assert "data/pairs is complete already" in remarks
    assert (world.data / "pairs" / "manifest.json").stat().st_mtime_ns == stamp


def test_prepare_one_somewhere_else(world: World) -> None:
    world.skillnet("prepare", "pairs", "--out", "elsewhere")
    assert (world.folder / "elsewhere" / "manifest.json").exists() and not world.data.exists()


def test_prepare_lists_what_it_knows(world: World) -> None:
    listed = world.answer("prepare", "--list")["datasets"]
    assert {each["name"] for each in listed} == {"pairs", "hums", "broken", "parted"}
    assert "pairs" in world.skillnet("prepare", "--list")[0]


def test_prepare_table(world: World) -> None:
    rows = "".join(f"f{number}.shape,text {number}\n" for number in range(20))
    (world.folder / "mine.csv").write_text("file,word\n" + rows)
    for number in range(20):
        (world.folder / f"f{number}.shape").write_bytes(f"shape {number}".encode())
    words = ["prepare", "table", "mine.csv", "--task", "find", "--columns", "shape=file"]
    (made,) = world.answer(*words)["sets"]
    assert made["splits"] == {"train": 16, "dev": 2, "test": 2} and made["path"] == "data/mine"


def test_prepare_vocab(world: World) -> None:
    world.prepare("pairs")
    (world.folder / "more.txt").write_text("eeee\n" * 40)
    words = ["--modality", "word", "--from", "pairs", "--from", "more.txt", "--size", "3", "--out", "new/letters.txt"]
    world.skillnet("prepare", "vocab", *words)
    letters = (world.folder / "new" / "letters.txt").read_text().split()
    assert letters[0] == "e" and len(letters) == 3


def test_a_run_from_recipe_to_report(world: World) -> None:
    world.skillnet("prepare", "both")
    (world.folder / "tiny.toml").write_text(RECIPE)
    _, remarks = world.skillnet("finetune", "tiny.toml", "--set", "finetune.steps=2")
    assert "finetune of tiny: 2 steps" in remarks and "shards" not in remarks
    run = world.folder / "runs" / "tiny"
    assert "steps = 2" in (run / "recipe.toml").read_text()
    answer = world.answer("eval", "--task", "find")
    (result,) = answer["results"]
    assert answer["checkpoint"] == "runs/tiny/model"
    assert (result["task"], result["set"], result["split"]) == ("find", "pairs", "test")
    kept = json.loads((run / "results.json").read_text())["results"]
    assert [row["metrics"] for row in kept] == [result["metrics"]] and kept[0]["cases"]
    _, remarks = world.skillnet("report")
    assert "wrote runs/tiny/report.html" in remarks
    page = (run / "report.html").read_text()
    assert "pairs:test" in page and "<svg" in page


def test_eval_measures_where_it_is_told(trained: World) -> None:
    both = trained.answer("eval", "--task", "kind", "--split", "pairs", "--split", "pairs:train")["results"]
    assert [(each["split"], each["items"]) for each in both] == [("test", 18), ("train", 36)]
    before = (trained.run / "results.json").read_bytes()
    few = trained.answer("eval", "--task", "kind", "--limit", "4")["results"]
    assert few[0]["items"] == 4 and (trained.run / "results.json").read_bytes() == before
    assert "kind pairs:test" in trained.skillnet("eval", "--task", "kind")[0]


def test_embed_and_search(trained: World) -> None:
    (trained.folder / "more").mkdir()
    (trained.folder / "more" / "x.shape").write_bytes(b"cwcwcw")
    (trained.folder / "more" / "say.hum").write_bytes(b"abcabc")
    put = trained.answer("embed", "more", "pairs")
    assert put["added"] == {"shape": 18, "hum": 1} and put["items"] == 19 and len(put["damaged"]) == 1
    assert put["collection"] == str(trained.run / "collection")
    again = trained.answer("embed", "more", "pairs")
    assert again["reused"] == {"shape": 18, "hum": 1} and again["added"] == {}

    found = trained.answer("search", "more/x.shape", "--top", "3")
    assert found["skill"] == "shape" and len(found["hits"]) == 3
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert {hit["path"] for hit in found["hits"][:2]} >= {str(trained.folder / "more" / "x.shape")}
    printed, _ = trained.skillnet("search", "红色的汽车", "--skill", "hum")
    assert "hum by transcript" in printed and "say.hum" in printed


def test_transcribe_in_every_format(trained: World) -> None:
    for name in ("a.hum", "b.hum"):
        (trained.folder / name).write_bytes(b"abcabcuvwxyz")
    (first, second) = trained.answer("transcribe", "a.hum", "b.hum")["transcripts"]
    assert first["text"] == second["text"] != ""
    assert [(each["start"], each["end"]) for each in first["passages"]] == [(0, 1), (1, 1.5)]
    assert trained.skillnet("transcribe", "a.hum")[0] == first["text"] + "\n"
    assert trained.skillnet("transcribe", "a.hum", "b.hum")[0].startswith("a.hum: ")
    assert " --> " in trained.skillnet("transcribe", "a.hum", "--format", "srt")[0]
    assert trained.skillnet("transcribe", "a.hum", "--format", "vtt")[0].startswith("WEBVTT")
    assert json.loads(trained.skillnet("transcribe", "a.hum", "--format", "json")[0])["transcripts"] == [first]


def test_transcribe_goes_on_past_a_damaged_file(trained: World) -> None:
    (trained.folder / "good.hum").write_bytes(b"abc")
    (trained.folder / "bad.hum").write_bytes(b"!")
    printed, remarks = trained.skillnet("transcribe", "bad.hum", "good.hum", code=1)
    assert printed.startswith("good.hum: ")
    assert remarks.splitlines()[-2:] == [
        "skillnet: bad.hum: an exclamation mark cannot be read",
        "skillnet: error: 1 of 2 files could not be read",
    ]


def test_inspect_counts_what_tasks_activate(trained: World) -> None:
    facts = trained.answer("inspect")
    model, _ = trained.model()
    assert facts["parameters"]["total"] == sum(each.numel() for each in model.parameters())
    assert sum(facts["parameters"]["parts"].values()) == facts["parameters"]["total"]
    assert facts["tasks"]["find"]["skills"] == ["word", "shape"]
    assert facts["tasks"]["kind"]["activated"] < facts["tasks"]["find"]["activated"] < facts["parameters"]["total"]
    assert "task find" in trained.skillnet("inspect")[0]
    (trained.folder / "tiny.toml").write_text(RECIPE)
    assert trained.answer("inspect", "--recipe", "tiny.toml")["encoder"]["layers"] == 1


def test_plugins_are_listed(world: World) -> None:
    (plugin,) = world.answer("plugins")["plugins"]
    assert plugin["distribution"] == "skillnet-bytes" and plugin["skills"] == ["word", "shape", "hum", "lone"]
    assert "skillnet-bytes" in world.skillnet("plugins")[0]


def test_the_model_is_the_one_named_or_the_newest(trained: World) -> None:
    assert "skillnet: using runs/small/model" in trained.skillnet("inspect")[1]
    elsewhere = str(trained.run / "model")
    for words, env in ((("--checkpoint", elsewhere), {}), ((), {"SKILLNET_CHECKPOINT": elsewhere})):
        printed, remarks = trained.skillnet("inspect", "--json", *words, env=env)
        assert json.loads(printed)["checkpoint"] == elsewhere and remarks == ""


def test_sets_are_found_in_other_folders(trained: World) -> None:
    (trained.folder / "data").rename(trained.folder / "sets")
    for words, env in ((("--data", "sets"), {}), ((), {"SKILLNET_DATA": "nowhere:sets"})):
        trained.skillnet("eval", "--task", "kind", *words, env=env)


def test_results_of_a_model_outside_a_run_are_only_printed(trained: World) -> None:
    (trained.run / "recipe.toml").unlink()
    trained.skillnet("eval", "--task", "kind")
    assert not Path(trained.run / "results.json").exists()
