"""The report stands alone, shows what was measured, and survives what is missing."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from skillnet_cli.evaluation.evaluate import evaluate
from skillnet_cli.evaluation.report.report import write_report
from skillnet_cli.plugins import load_registry
from skillnet_cli.runs import record_results
from tests.inference.world import World

VOID = {"meta", "br", "img", "circle", "path"}


class Page(HTMLParser):
    """Checks that tags close in order, and gathers texts and what would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def measured(world: World) -> Path:
    """A run with figures of every kind of task."""
    world.save_run()
    model, readers = world.model()
    results = [
        evaluate(model, readers, model.task(task), world.prepare(name).split("test"), load_registry())
        for task, name in [("find", "pairs"), ("kind", "pairs"), ("hear", "hums"), ("guess", "hums")]
    ]
    record_results(world.run, results, "model")
    rows = [{"kind": "train", "step": step, "task": "find", "loss": 3 / step} for step in range(1, 40)]
    rows += [{"kind": "train", "step": 40, "task": "kind", "loss": None}]
    metrics = {"recall@1": 0.5, "recall@3": None}
    rows += [{"kind": "eval", "step": 20, "task": "find", "set": "pairs", "metrics": metrics, "items": 9}]
    rows += [{"kind": "damaged", "step": 3, "task": "find", "id": "x", "reason": "y"}]
    (world.run / "finetune").mkdir()
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (world.run / "finetune" / "metrics.jsonl").write_text(lines + '{"kind": "tr')
    return world.run


def render(run: Path, world: World) -> Page:
    page = Page(write_report(run, load_registry(), [world.data]).read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_it_shows_figures_curves_and_examples_and_fetches_nothing(measured: Path, world: World) -> None:
    page = render(measured, world)
    text = "\n".join(page.texts)
    rows = json.loads((measured / "results.json").read_text())["results"]
    for row in rows:
        assert f"{row['set']}:{row['split']}" in text
        assert all(f"{value:.4f}" in text for value in row["metrics"].values())
    assert page.fetched == [] and "script" not in page.tags
    assert page.tags.count("polyline") == 1 and page.tags.count("circle") == 1
    assert text.count("ground truth") == 6 and text.count("score ") == 18
    assert "no loss recorded" in text and "none at all" in text


def test_the_truth_is_marked_where_it_was_found(measured: Path, world: World) -> None:
    path = measured / "results.json"
    document = json.loads(path.read_text())
    document["results"] = [row for row in document["results"] if row["task"] == "find"]
    for number, case in enumerate(document["results"][0]["cases"]):
        places = [hit for hit in range(3) if number % 2 == 0 and hit == number % 3]
        for place, hit in enumerate(case["best"]):
            hit["index"] = case["index"] if place in places else case["index"] + 1
    path.write_text(json.dumps(document))
    assert "".join(render(measured, world).texts).count(" ✓") == 3


def test_cases_of_a_dev_part_give_way_to_those_of_a_test_part(measured: Path, world: World) -> None:
    path = measured / "results.json"
    document = json.loads(path.read_text())
    document["results"] += [{**row, "split": "dev"} for row in document["results"] if row["task"] == "find"]
    path.write_text(json.dumps(document))
    texts = render(measured, world).texts
    assert "pairs:dev" in texts and texts.count("ground truth") == 6


def test_items_show_as_their_modality_shows_them(measured: Path, world: World) -> None:
    split = world.prepare("pairs").split("test")
    page = render(measured, world)
    rows = json.loads((measured / "results.json").read_text())["results"]
    case = next(row for row in rows if row["task"] == "find")["cases"][0]
    assert split[case["index"]]["shape"].hex() in page.texts
    assert split[case["index"]]["word"][case["caption"]] in page.texts


def test_a_set_that_is_gone_leaves_the_rest(measured: Path, world: World) -> None:
    shutil.rmtree(world.data / "pairs")
    text = "".join(render(measured, world).texts)
    assert "cannot be shown: no prepared set 'pairs'" in text and "reference" in text


def test_texts_of_items_cannot_break_the_page(measured: Path, world: World) -> None:
    path = measured / "results.json"
    document = json.loads(path.read_text())
    for row in document["results"]:
        row["cases"] = [{**case, "predicted": "</section><script>"} for case in row["cases"] if "predicted" in case]
    path.write_text(json.dumps(document))
    page = render(measured, world)
    assert "script" not in page.tags and "</section><script> ✗" in page.texts


def test_a_run_without_figures_says_so(world: World) -> None:
    world.save_run()
    assert "no results yet" in "".join(render(world.run, world).texts)
    assert not list(world.run.glob("*.partial"))
