"""From samples to batches: what is random comes from the sample's own generator, and nothing else."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
import torch

from skillnet_cli.api import DamagedItem, Task
from skillnet_cli.data.pipeline import TaskPipeline
from tests.integers import ToyConfig, ToyReader

TASK = Task("find", (("words",), ("blob",)), "contrastive", "label")
SAMPLE = {"id": "one", "words": ["3", "4 4", "5 5 5", "6 6 6 6"], "blob": b"7 8", "label": "x"}


class Noting:
    """A target side that draws a number for each item."""

    def example(self, features: list, target: Any, rng: np.random.Generator) -> tuple[list, Any]:
        return features, (target, int(rng.integers(1 << 30)))

    def collate(self, towers: list, wanted: list) -> dict[str, torch.Tensor]:
        return {"drawn": torch.tensor([drawn for _, drawn in wanted])}


def reversing(features: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return features.flip(0) if rng.random() < 0.5 else features


def pipeline(seed: int = 0) -> TaskPipeline:
    reader = ToyReader(ToyConfig())
    return TaskPipeline(TASK, {"words": reader, "blob": reader}, Noting(), {"blob": reversing}, seed)


def words(example: Any) -> tuple[int, ...]:
    return tuple(example.features[0][0].tolist())


def test_a_sample_and_an_epoch_always_give_the_same_example() -> None:
    for epoch in range(5):
        one, other = (pipeline().example(SAMPLE, epoch) for _ in range(2))
        assert torch.equal(one.features[0][0], other.features[0][0]) and one.wanted == other.wanted
        assert torch.equal(one.features[1][0], other.features[1][0])


def test_epochs_seeds_and_ids_change_what_is_drawn() -> None:
    cases = [(seed, id, epoch) for seed in (0, 1) for id in "ab" for epoch in (0, 1)]
    drawn = {pipeline(seed).example({**SAMPLE, "id": id}, epoch).wanted for seed, id, epoch in cases}
    assert len(drawn) == 8


def test_training_draws_all_captions_and_augments() -> None:
    examples = [pipeline().example(SAMPLE, epoch) for epoch in range(100)]
    assert len({words(example) for example in examples}) == 4
    assert len({tuple(example.features[1][0].tolist()) for example in examples}) == 2


def test_evaluation_takes_the_first_caption_as_it_is_whatever_the_seed() -> None:
    found = [pipeline(seed).example(SAMPLE, None) for seed in range(5)]
    assert {words(each) for each in found} == {(1, 3)}
    assert {tuple(each.features[1][0].tolist()) for each in found} == {(1, 7, 8)}
    assert len({each.wanted for each in found}) == 1


def test_a_batch_is_towers_of_segments_with_targets_and_ids() -> None:
    examples = [pipeline().example({**SAMPLE, "id": id}, None) for id in ("a", "b")]
    batch = pipeline().batch(examples)
    assert batch.task == "find" and batch.ids == ("a", "b")
    (query,), (answer,) = batch.towers
    assert query["ids"].tolist() == [1, 3, 1, 3] and answer["lengths"].tolist() == [3, 3]
    assert batch.targets["drawn"].tolist() == [each.wanted[1] for each in examples]
    assert [each.length for each in examples] == [5, 5]


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"blob": b"broken"}, "not numbers"), ({"words": []}, "'words' is empty")],
)
def test_what_cannot_be_read_is_a_damaged_item(change: dict, reason: str) -> None:
    with pytest.raises(DamagedItem, match=reason):
        pipeline().example({**SAMPLE, **change}, 0)


@pytest.mark.parametrize("field", ["words", "blob", "label"])
def test_a_field_that_is_missing_is_named(field: str) -> None:
    with pytest.raises(DamagedItem, match=f"no field '{field}'"):
        pipeline().example({name: value for name, value in SAMPLE.items() if name != field}, 0)


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (2**32 - 1, 5), (2**32, 1), (2**70, 2)])
def test_a_samples_generator_is_that_of_seed_epoch_and_id(seed: int, epoch: int) -> None:
    pipeline = TaskPipeline(TASK, {}, Noting(), seed=seed)
    wanted = np.random.default_rng((seed, epoch, zlib.crc32("第一".encode())))
    assert pipeline._generator("第一", epoch).bit_generator.state == wanted.bit_generator.state
