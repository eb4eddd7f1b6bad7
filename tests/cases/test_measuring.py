"""What is measured, on which items, and under which name its figures are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.evaluation.evaluate import evaluate
from skillnet_cli.plugins import load_registry
from skillnet_cli.prepare.writer import SetWriter
from tests.inference.world import World

TARGETS = {"label": list("abcdef"), "transcript": list("abcuvwxyz"), "units": [str(unit) for unit in range(8)]}


def make(folder: Path, parts: dict[str, list[dict[str, Any]]], name: str = "pairs") -> Path:
    """A set of a preparer called ``name``: for each part the fields of its items; bytes are media."""
    with SetWriter(folder, name=name, licence="none") as writer:
        for part, items in parts.items():
            for number, fields in enumerate(items):
                media = {key: (value, f".{key}") for key, value in fields.items() if isinstance(value, bytes)}
                kept = {key: value for key, value in fields.items() if key not in media}
                writer.keep(part, f"{part}-{number}", kept, media)
        writer.finish(TARGETS)
    return folder


def words(*labels: str | None) -> list[dict[str, Any]]:
    """Items of words, each with its label, and without one where that is None."""
    return [
        {"word": [f"word {number}"], **({} if label is None else {"label": label})}
        for number, label in enumerate(labels)
    ]


def complain(world: World, *arguments: str) -> str:
    """The one line that a mistake ends in; nothing is kept of it."""
    (line,) = [
        line for line in world.skillnet(*arguments, code=2)[1].splitlines() if not line.startswith("skillnet: using ")
    ]
    assert not (world.run / "results.json").exists()
    return line


def test_a01_a_part_without_targets_is_refused_with_those_that_have_them(world: World) -> None:
    world.save_run()
    make(world.data / "news", {"train": words("a", "b"), "dev": words("a"), "test": words(None, None)})
    line = complain(world, "eval", "--task", "kind", "--split", "news:test")
    assert "news:test has no label; it has word" in line
    assert "measure with --split news:dev or --split news:train" in line


def test_a01_without_a_part_the_last_one_with_targets_is_measured_and_named(world: World) -> None:
    world.save_run()
    make(world.data / "news", {"train": words("a"), "Validation": words("a", "b", "c"), "test": words(None)})
    printed, remarks = world.skillnet("eval", "--task", "kind", "--split", "news")
    assert "kind news:Validation" in printed and "3 items" in printed
    assert "news: measured on Validation, as test has no label" in remarks
    (row,) = json.loads((world.run / "results.json").read_text())["results"]
    assert (row["set"], row["split"], row["items"]) == ("news", "Validation", 3)


def test_a01_the_sets_of_the_task_itself_are_measured_where_their_targets_are(world: World) -> None:
    world.save_run()
    make(world.data / "pairs", {"train": words("a"), "dev": words("a", "b"), "test": words(None)})
    assert [row["split"] for row in world.answer("eval", "--task", "kind")["results"]] == ["dev"]
    make(world.data / "hums", {"train": words("a"), "test": words(None)})
    (world.run / "results.json").unlink()
    assert "hums:test has no hum and no transcript; it has word" in complain(world, "eval", "--task", "hear")


def test_a01_a_set_that_has_the_target_nowhere_or_no_usual_part(world: World) -> None:
    world.save_run()
    make(world.data / "bare", {"train": words(None), "test": words(None)})
    assert "no split of the set has that" in complain(world, "eval", "--task", "kind", "--split", "bare")
    make(world.data / "odd", {"train": words("a"), "seen": words("a")})
    line = complain(world, "eval", "--task", "kind", "--split", "odd")
    assert "set 'odd' has no split 'test' or 'dev'" in line and "seen, train" in line


@pytest.mark.parametrize(
    ("task", "lacks"),
    [("kind", "label"), ("hear", "hum and no transcript"), ("guess", "lone and no units"), ("find", "shape")],
)
def test_a02_a_set_without_the_fields_of_a_task_is_one_line(world: World, task: str, lacks: str) -> None:
    world.save_run()
    make(world.data / "plain", {"test": words(None, None)})
    assert f"plain:test has no {lacks}; it has word" in complain(world, "eval", "--task", task, "--split", "plain")


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("kind", {"word": ["a"], "label": ["a"]}),
        ("kind", {"word": [], "label": "a"}),
        ("kind", {"word": [3], "label": "a"}),
        ("hear", {"transcript": 7}),
        ("hear", {"transcript": ["a"]}),
        ("guess", {"units": "abcabc"}),
        ("guess", {"units": ["1", "2", "3", "1", "2", "3"]}),
        ("guess", {"units": [[1]] * 6}),
        ("find", {"word": ["a"], "shape": []}),
        ("find", {"word": [], "shape": b"abc"}),
        ("find", {"word": [None], "shape": b"abc"}),
    ],
)
def test_a02_fields_of_another_kind_than_the_task_reads_are_damaged_items(
    world: World, task: str, fields: dict[str, Any]
) -> None:
    world.save_run()
    sound = {"word": ["word"], "label": "a", "hum": b"abcabc", "lone": b"abcabc", "shape": b"abc"}
    sound |= {"transcript": "a", "units": [1] * 6}
    make(world.data / "worse", {"test": [{**sound, **fields}]})
    said = world.skillnet("eval", "--task", task, "--split", "worse", code=1)[1].splitlines()[-1]
    assert "could be read" in said


def test_a10_labels_that_the_model_does_not_know_are_counted_and_said(world: World) -> None:
    world.save_run()
    make(world.data / "news", {"test": words("a", "strange", "b", "other", "c")})
    printed, remarks = world.skillnet("eval", "--task", "kind", "--split", "news", "--json")
    told = "2 of 5 items have labels that the model does not know"
    (result,) = json.loads(printed)["results"]
    assert result["protocol"]["unknown"] == told and f"news:test: {told}" in remarks
    (row,) = json.loads((world.run / "results.json").read_text())["results"]
    assert row["protocol"]["unknown"] == told and row["items"] == 5
    world.skillnet("report", str(world.run))
    assert told in (world.run / "report.html").read_text()


def test_a10_a_set_of_which_no_label_is_known_is_refused(world: World) -> None:
    world.save_run()
    make(world.data / "news", {"test": words("sport", "art")})
    line = complain(world, "eval", "--task", "kind", "--split", "news")
    assert "none of the labels of news:test is one of the 6 that the model knows" in line and "sport" in line
    make(world.data / "talk", {"test": [{"hum": b"abcabc", "transcript": "北京"}] * 2})
    line = complain(world, "eval", "--task", "hear", "--split", "talk")
    assert "none of the characters of talk:test is one of the 9 that the model knows" in line


def test_a09_two_folders_of_one_preparer_keep_figures_and_cases_of_their_own(world: World) -> None:
    world.save_run()
    pictures = {name: [{"word": [f"{name} {n}"], "shape": f"{name}{n}".encode()} for n in range(8)] for name in "xy"}
    for name, items in pictures.items():
        make(world.data / name, {"test": items}, name="pairs")
        printed = world.skillnet("eval", "--task", "find", "--split", f"{name}:test")[0]
        assert f"find {name}:test" in printed and "pairs" not in printed
    rows = json.loads((world.run / "results.json").read_text())["results"]
    assert [row["set"] for row in rows] == ["x", "y"]
    assert [row["checksum"] for row in rows] == [PreparedSet.open(world.data / n).split("test").checksum for n in "xy"]
    card = (world.run / "model" / "README.md").read_text()
    assert "| find | x:test |" in card and "| find | y:test |" in card
    page = report(world)
    own = {name: f"<code>{items[0]['shape'].hex()[:2]}" for name, items in pictures.items()}
    first, second = (page.index(f"find <small>{name}:test</small>") for name in "xy")
    assert own["x"] in page[first:second] and own["y"] not in page[first:second]
    assert own["y"] in page[second:] and own["x"] not in page[second:]


def report(world: World) -> str:
    world.skillnet("report", str(world.run))
    return (world.run / "report.html").read_text()


def test_a09_a_gallery_opens_the_set_that_was_measured_or_none(world: World) -> None:
    world.save_run()
    old = [{"word": [f"old {n}"], "shape": f"old{n}".encode()} for n in range(4)]
    make(world.data / "x", {"test": old})
    world.skillnet("eval", "--task", "find", "--split", "x")
    (world.data / "x").rename(world.data / "kept")
    make(world.data / "x", {"test": [{"word": [f"new {n}"], "shape": f"new{n}".encode()} for n in range(4)]})
    page = report(world)
    assert b"old0".hex() in page and b"new0".hex() not in page
    (world.data / "kept" / "manifest.json").unlink()
    page = report(world)
    assert "is not what was measured any more" in page and b"new0".hex() not in page
    world.skillnet("eval", "--task", "find", "--split", "x")
    assert len(json.loads((world.run / "results.json").read_text())["results"]) == 2


def test_a09_a_sets_name_is_the_same_however_it_is_pointed_at(world: World) -> None:
    world.save_run()
    make(world.data / "deep" / "x", {"test": words("a", "b")})
    (world.folder / "away").mkdir()
    make(world.folder / "away" / "x", {"test": words("a", "b")})
    for place, name in [
        ("deep/x", "deep/x"),
        ("data/deep/x:test", "deep/x"),
        (f"{world.data}/deep/x", "deep/x"),
        ("away/x", "x"),
        ("./away/../away/x/:test", "x"),
    ]:
        (result,) = world.answer("eval", "--task", "kind", "--split", place)["results"]
        assert result["set"] == name, place
    assert "set 'deep/x' has no split 'dev'" in world.skillnet("data", "show", "deep/x", "--split", "dev", code=2)[1]


def test_a09_a_page_opens_no_set_outside_the_folders_of_data(world: World) -> None:
    world.save_run()
    make(world.folder / "away" / "x", {"test": [{"word": ["secret"], "shape": b"secret"}] * 4})
    world.skillnet("eval", "--task", "find", "--split", "away/x")
    path = world.run / "results.json"
    for name in ("../away/x", f"{world.folder}/away/x", "data/../away/x"):
        document = json.loads(path.read_text())
        document["results"][0]["set"] = name
        path.write_text(json.dumps(document))
        assert "cannot be shown: " in (page := report(world)) and b"secret".hex() not in page


@pytest.mark.parametrize("limit", [3, 5])
def test_a11_a_limit_cuts_the_queries_and_not_the_pool(world: World, limit: int) -> None:
    world.save_run()
    split = world.prepare("pairs").split("test")
    readable = [index for index, sample in enumerate(split) if b"!" not in sample["shape"]]
    asked = [place * len(split) // limit for place in range(limit)]
    model, readers = world.model()
    import torch

    def vector(skill: str, source: Any) -> Any:
        with torch.no_grad():
            return model.encode(skill, readers[skill].collate([readers[skill].read(source)]))[0]

    pool = torch.stack([vector("shape", split[index]["shape"]) for index in readable])
    ranks = [
        int((pool @ vector("word", text) >= pool[readable.index(index)] @ vector("word", text)).sum())
        for index in asked
        if index in readable
        for text in split[index]["word"]
    ]
    printed, _ = world.skillnet("eval", "--task", "find", "--limit", str(limit), "--json")
    (result,) = json.loads(printed)["results"]
    assert (result["items"], result["queries"]) == (len(readable), len(ranks))
    assert result["metrics"]["recall@3"] == np.mean([rank <= 3 for rank in ranks])
    assert f"one of {limit} items of the pool" in result["protocol"]["queries"]
    printed = world.skillnet("eval", "--task", "find", "--limit", str(limit))[0]
    assert f"{len(ranks)} queries in a pool of {len(readable)} items" in printed
    assert not (world.run / "results.json").exists()


def test_a11_all_items_of_a_pool_may_be_left_out(world: World) -> None:
    model, readers = world.model()
    split = world.prepare("pairs").split("test")
    some = evaluate(model, readers, model.task("find"), split, load_registry(), limit=4, whole_pool=False)
    assert some.items <= 4 and "an item of the pool" in some.protocol["queries"]
