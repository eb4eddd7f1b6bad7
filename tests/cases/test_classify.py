"""``skillnet classify`` against softmax by hand: texts, files, folders, pipes, tasks of any modality."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Any

import pytest
import torch

from skillnet_cli.model.build import build_config
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import load_registry
from tests.inference.world import LABELS, World


def by_hand(model: SkillNet, readers: Any, skill: str, source: Any, task: str = "kind") -> dict[str, float]:
    """Softmax of the head's product with the item's [CLS], of the task's labels."""
    with torch.no_grad():
        batch = readers[skill].collate([readers[skill].read(source)])
        vector = model.tower((skill,), (batch,)).cls[0].double()
        head = model.heads[task]
        scores = head.weight.double() @ vector + head.bias.double()
    powers = [float(torch.exp(score - scores.max())) for score in scores]
    return {label: power / sum(powers) for label, power in zip(model.task(task).labels, powers, strict=True)}


def found(row: dict[str, Any]) -> dict[str, float]:
    return {each["label"]: each["probability"] for each in row["labels"]}


@pytest.fixture
def trained(world: World) -> World:
    world.save_run()
    return world


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_u03_a_text_has_the_probabilities_of_softmax(trained: World) -> None:
    model, readers = trained.model()
    document = trained.answer("classify", "abc", "--top", str(2**70))
    (row,) = document["items"]
    right = by_hand(model, readers, "word", "abc")
    assert found(row) == pytest.approx(right, abs=2e-6) and sum(found(row).values()) == pytest.approx(1, abs=1e-5)
    assert [each["label"] for each in row["labels"]] == sorted(right, key=lambda label: -right[label])
    assert (document["task"], document["precision"], row["item"]) == ("kind", "fp32", "abc")
    printed = trained.skillnet("classify", "abc")[0].splitlines()
    assert len(printed) == 3
    best = max(right, key=lambda label: right[label])
    assert printed[0] == f"{right[best]:.3f}  {best}"


def test_u03_files_folders_and_lines_are_items(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    model, readers = trained.model()
    folder = trained.folder / "in"
    folder.mkdir()
    for name, content in {
        "a.word": b"abc",
        "b.word": b"xyz",
        "bad.word": b"!",
        "c.shape": b"abc",
        "d.pdf": b"?",
    }.items():
        (folder / name).write_bytes(content)
    printed, said = trained.skillnet("classify", "in", "uvw", "--top", "1", code=1)
    lines = dict(line.split(": ") for line in printed.splitlines())
    assert list(lines) == ["uvw", "in/a.word", "in/b.word"]
    for name, source in {"uvw": "uvw", "in/a.word": b"abc", "in/b.word": b"xyz"}.items():
        right = by_hand(model, readers, "word", source)
        best = max(right, key=lambda label: right[label])
        assert lines[name] == f"{best} {right[best]:.3f}"
    assert "left out: 1 .pdf" in said and "left out: 1 of shape: task 'kind' reads word" in said
    assert "in/bad.word: an exclamation mark" in said and "1 of 4 items could not be read" in said
    pipe(monkeypatch, "abc\r\n\nxyz\n词".encode())
    printed, _ = trained.skillnet("classify", "-", "--json", code=1)
    document = json.loads(printed)
    assert [row["item"] for row in document["items"]] == ["line 1", "line 3", "line 4"]
    assert list(document["damaged"]) == ["line 2"]
    for row, source in zip(document["items"], ["abc", "xyz", "词"], strict=True):
        right = by_hand(model, readers, "word", source)
        assert found(row) == pytest.approx({label: right[label] for label in found(row)}, abs=2e-6)


def test_u03_many_lines_come_in_order(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["abcdefghij"[: 1 + number % 10] for number in range(700)]
    pipe(monkeypatch, "\n".join(texts).encode())
    rows = trained.answer("classify", "-")["items"]
    alone = {text: found(trained.answer("classify", text)["items"][0]) for text in ("a", "abcdefg")}
    assert [row["item"] for row in rows] == [f"line {number}" for number in range(1, 701)]
    for text, row in zip(texts, rows, strict=True):
        if text in alone:
            assert found(row) == alone[text]


def test_u03_a_real_pipe_is_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from skillnet_cli.cli import classify

    monkeypatch.setattr(classify, "_LONGEST", 8)
    reading, writing = os.pipe()
    os.write(writing, b"abc\r\n\nlonger than eight\n\xba\xec\n12345678\n1234567\nend")
    os.close(writing)
    with os.fdopen(reading, "r") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert list(classify._lines()) == [b"abc", b"", b"", b"\xba\xec", b"", b"1234567", b"end"]


def two_tasks(world: World) -> tuple[SkillNet, Any]:
    """A model that also sorts shapes, which no plugin's task does."""
    registry = load_registry()
    _, readers = world.model()
    tasks = [
        TaskConfig("kind", (("word",),), "classification", target="label", labels=LABELS["kind"]),
        TaskConfig("sort", (("shape",),), "classification", target="label", labels=("round", "flat")),
        TaskConfig("both", (("word", "shape"),), "classification", target="label", labels=("yes", "no")),
    ]
    torch.manual_seed(3)
    sizes = {"layers": 1, "hidden": 16, "heads": 2, "ffn": 32, "norm": "pre", "activation": "gelu", "dropout": 0.0}
    model = SkillNet(build_config(sizes, readers, tasks, registry), registry).eval()
    model.save(world.folder / "two", readers)
    return model, readers


def test_u03_the_task_follows_from_what_is_given(world: World) -> None:
    model, readers = two_tasks(world)
    (world.folder / "a.shape").write_bytes(b"abc")
    words = ("classify", "a.shape", "--checkpoint", "two")
    document = world.answer(*words)
    assert document["task"] == "sort"
    assert found(document["items"][0]) == pytest.approx(by_hand(model, readers, "shape", b"abc", "sort"), abs=2e-6)
    said = world.skillnet("classify", "abc", "--checkpoint", "two", code=2)[1]
    assert "several tasks of the model classify: choose one of kind (word), sort (shape) with --task" in said
    assert world.answer("classify", "abc", "--checkpoint", "two", "--task", "kind")["task"] == "kind"
    said = world.skillnet(*words, "--task", "kind", code=2)[1]
    assert "left out: 1 of shape: task 'kind' reads word" in said and "nothing to classify" in said


def test_u03_mistakes_are_one_line(trained: World) -> None:
    (trained.folder / "a.shape").write_bytes(b"abc")
    (trained.folder / "empty").mkdir()
    for words, reason in [
        (["missing.word"], "missing.word: there is no such file"),
        (["a.shape"], "no task of the model classifies shape; what classifies is kind (word)"),
        (["empty"], "nothing to classify in empty"),
        (["abc", "--task", "find"], "the model has no task 'find' that classifies: choose one of kind (word)"),
        (["!"], "task 'kind' reads word, and cannot read '!': an exclamation mark"),
        (["\udcba\udcec"], "neither UTF-8 nor"),
    ]:
        assert reason in trained.skillnet("classify", *words, code=2)[1]


def test_u04_classify_takes_the_newest_model_that_classifies(trained: World) -> None:
    newer = trained.folder / "runs" / "newer" / "model"
    trained.skillnet("export", "--tasks", "find", "--to", str(newer))
    assert "using runs/small/model" in trained.skillnet("classify", "abc")[1]


def test_u04_eval_takes_the_newest_model_that_has_the_task(trained: World) -> None:
    trained.prepare("pairs")
    trained.skillnet("export", "--tasks", "find", "--to", str(trained.folder / "runs" / "newer" / "model"))
    answer = trained.answer("eval", "--task", "kind", "--precision", "bf16", "--device", "cpu")
    assert answer["checkpoint"] == "runs/small/model"
    assert answer["results"][0]["protocol"]["precision"] == "bf16"
    assert (
        "there is no such device here, but cpu"
        in trained.skillnet("eval", "--task", "kind", "--device", "x", code=2)[1]
    )
