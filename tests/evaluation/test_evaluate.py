"""Every objective's protocol against a second, slow way of measuring the same."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest
import torch

from skillnet_cli import objectives
from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.evaluation.evaluate import evaluate, spread
from skillnet_cli.plugins import load_registry
from skillnet_cli.prepare.writer import SetWriter
from tests.inference.world import World


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons with single items are exact in float32 alone."""
    monkeypatch.setattr("skillnet_cli.model.device.default_precision", lambda device: "fp32")


def test_classification_is_the_share_of_right_labels(world: World) -> None:
    model, readers = world.model()
    task, split = model.task("kind"), world.prepare("pairs").split("test")
    right = 0
    with torch.no_grad():
        for sample in split:
            batch = readers["word"].collate([readers["word"].read(sample["word"][0])])
            right += task.labels[int(model.predict("kind", [[batch]])[0].argmax())] == sample["label"]
    result = evaluate(model, readers, task, split, load_registry())
    assert result.metrics == {"accuracy": right / len(split)}
    assert (result.task, result.set, result.split) == ("kind", "pairs", "test")
    assert result.items == result.queries == len(split) and result.damaged == 0
    accuracy = {"computed by": "skillnet_cli.evaluation.metrics:accuracy"}
    assert result.protocol == {"metrics": {"accuracy": accuracy}, "precision": "fp32"}
    assert len(result.cases) == 6
    for case in result.cases:
        assert case["reference"] == split[case["index"]]["label"] and case["predicted"] in task.labels


def test_a_label_that_the_model_has_not_counts_as_missed(world: World) -> None:
    model, readers = world.model()
    whole = world.prepare("pairs").split("test")
    known = evaluate(model, readers, model.task("kind"), whole, load_registry()).metrics["accuracy"]
    model.objectives["kind"].task = dataclasses.replace(model.task("kind"), labels=("none",) * 6)
    assert known > 0 and evaluate(model, readers, model.task("kind"), whole, load_registry()).metrics["accuracy"] == 0


def test_transcripts_are_compared_whole(world: World) -> None:
    model, readers = world.model()
    split = world.prepare("hums").split("test")
    result = evaluate(model, readers, model.task("hear"), split, load_registry())
    assert result.metrics["misses"] == 1.0 and result.items == 6
    metric = {"computed by": "bytes_parts:misses", "normaliser": "none at all"}
    assert result.protocol == {"metrics": {"misses": metric}, "decoding": "greedy", "precision": "fp32"}
    assert {case["reference"] for case in result.cases} == {sample["transcript"] for sample in split}


def test_retrieval_ranks_every_text_among_all_items(world: World) -> None:
    model, readers = world.model()
    split = world.prepare("pairs").split("test")
    readable = [index for index, sample in enumerate(split) if b"!" not in sample["shape"]]
    pool = torch.stack([vector(model, readers, "shape", split[index]["shape"]) for index in readable])
    ranks = []
    for place, index in enumerate(readable):
        for text in split[index]["word"]:
            scores = pool @ vector(model, readers, "word", text)
            ranks.append(int((scores >= scores[place]).sum()) - 1)
    result = evaluate(model, readers, model.task("find"), split, load_registry())
    assert result.metrics == {f"recall@{k}": np.mean([rank < k for rank in ranks]) for k in (1, 3)}
    assert (result.items, result.queries, result.damaged) == (len(readable), 2 * len(readable), 1)
    for case in result.cases:
        place = readable.index(case["index"])
        assert case["rank"] == ranks[2 * place + case["caption"]] + 1
        assert (case["best"][0]["index"] == case["index"]) == (case["rank"] == 1)
        assert [hit["score"] for hit in case["best"]] == sorted((hit["score"] for hit in case["best"]), reverse=True)


def vector(model, readers, skill, source):  # type: ignore[no-untyped-def]
    with torch.no_grad():
        return model.encode(skill, readers[skill].collate([readers[skill].read(source)]))[0]


def test_retrieval_finds_what_was_put_there(world: World) -> None:
    """An encoder that answers with the item's own number: everything is found, whatever the order of batches."""
    model, readers = world.model()
    split = world.prepare("pairs").split("test")

    def encode(skill: str, batch: dict[str, torch.Tensor], task: str | None) -> torch.Tensor:
        pieces = batch["ids"].split(batch["lengths"].tolist())
        rows = torch.zeros(len(pieces), 600)
        for row, ids in zip(rows, pieces, strict=True):
            row[ids[1:3].sort().values + torch.tensor([0, 300])] = 2**-0.5
        return rows

    model.encode = encode  # type: ignore[method-assign]
    result = evaluate(model, readers, model.task("find"), split, load_registry())
    assert result.metrics == {"recall@1": 1.0, "recall@3": 1.0}
    assert all(case["rank"] == 1 and case["best"][0]["score"] == 1.0 for case in result.cases)


@pytest.mark.parametrize("name", ["fill", "guess"])
def test_masked_places_are_the_same_at_every_measurement(world: World, name: str) -> None:
    model, readers = world.model()
    split = world.prepare(model.task(name).datasets[0]).split("test")
    first, again = (evaluate(model, readers, model.task(name), split, load_registry()) for _ in range(2))
    assert first == again
    assert set(first.metrics) == {"loss", "accuracy"} and 1 < first.metrics["loss"] < 20
    assert first.queries >= first.items == len(split)
    assert first.protocol["hidden"] == "by the item's id"


def test_the_masked_figures_are_those_of_items_alone(world: World) -> None:
    model, readers = world.model()
    task, split = model.task("fill"), world.prepare("pairs").split("test")
    hider = objectives.load(task.objective, load_registry()).targets(task, readers)
    total, right, places = 0.0, 0, 0
    for sample in split:
        rng = np.random.default_rng(zlib.crc32(sample["id"].encode()))
        towers, wanted = hider.example([[readers["word"].read(sample["word"][0])]], None, rng)
        batches = [[readers["word"].collate(towers[0])]]
        targets = hider.collate(batches, [wanted])
        with torch.no_grad():
            loss, count = model("fill", batches, targets)
            answers, truth = model.predict("fill", batches, targets)
        total, right, places = total + loss.item(), right + int((answers == truth).sum()), places + int(count)
    result = evaluate(model, readers, task, split, load_registry())
    assert result.queries == places
    assert result.metrics == pytest.approx({"accuracy": right / places, "loss": total / places}, abs=1e-5)


def test_a_limit_is_spread_over_the_split(world: World) -> None:
    model, readers = world.model()
    split = world.prepare("pairs").split("test")
    assert evaluate(model, readers, model.task("kind"), split, load_registry(), limit=5).items == 5
    assert spread(10, 4) == [0, 2, 5, 7] and spread(3, None) == spread(3, 9) == [0, 1, 2]


def test_items_may_be_drawn_by_a_seed() -> None:
    drawn = spread(1_000, 50, seed=1)
    assert drawn == spread(1_000, 50, seed=1) == sorted(set(drawn)) and len(drawn) == 50
    assert drawn != spread(1_000, 50, seed=2) and drawn != spread(1_000, 50)
    assert spread(5, None, seed=3) == [0, 1, 2, 3, 4]


def test_training_goes_on_as_before(world: World) -> None:
    model, readers = world.model()
    model.train()
    state = torch.get_rng_state()
    evaluate(model, readers, model.task("fill"), world.prepare("pairs").split("test"), load_registry())
    assert model.training and torch.equal(state, torch.get_rng_state())


def test_nothing_readable_is_a_failed_job(world: World) -> None:
    with SetWriter(world.data / "bad", name="bad", licence="none") as writer:
        fields = {"word": ["!"], "label": "a", "transcript": "a"}
        writer.keep("test", "one", fields, {"shape": (b"!", ".shape"), "hum": (b"!", ".hum")})
        writer.finish()
    model, readers = world.model()
    for task in ("kind", "hear", "find", "fill"):
        with pytest.raises(FailedJob, match="none of 1 items"):
            evaluate(model, readers, model.task(task), world.prepare("bad").split("test"), load_registry())


def test_a_set_without_what_the_task_needs_is_a_mistake(world: World) -> None:
    model, readers = world.model()
    hums = world.prepare("hums").split("test")
    with pytest.raises(UserError, match="hums:test has no word and no shape; it has "):
        evaluate(model, readers, model.task("find"), hums, load_registry())
    with pytest.raises(UserError, match="hums:test has no label; it has "):
        evaluate(model, readers, dataclasses.replace(model.task("hear"), target="label"), hums, load_registry())


def test_a_metric_that_does_not_fit_is_a_mistake(world: World) -> None:
    model, readers = world.model()
    split = world.prepare("pairs").split("test")
    for metrics in (("accuracy",), ("recall@0",), ("recall@x",), ("recall",)):
        with pytest.raises(UserError, match="measured by recall@K"):
            evaluate(model, readers, dataclasses.replace(model.task("find"), metrics=metrics), split, load_registry())
    with pytest.raises(UserError, match="unknown metric 'acuracy'"):
        evaluate(model, readers, dataclasses.replace(model.task("kind"), metrics=("acuracy",)), split, load_registry())
