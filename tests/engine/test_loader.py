"""Steps: the same global batch for any number of ranks, equal micro-batches, substitutes for damaged samples."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from skillnet_cli.api import FailedJob, Task, UserError
from skillnet_cli.data.pipeline import TaskBatch, TaskPipeline
from skillnet_cli.data.sampler import Stream, TaskOrder
from skillnet_cli.engine.loader import MAX_DAMAGED, StepDataset
from tests.integers import ToyConfig, ToyReader
from tests.sets import MakeSet

BATCH = 12


class NoTargets:
    def example(self, features: list, target: Any, rng: Any) -> tuple[list, Any]:
        return features, None

    def collate(self, towers: list, wanted: list) -> dict[str, torch.Tensor]:
        return {}


def samples(count: int, damaged: frozenset[int] = frozenset()) -> list[dict[str, Any]]:
    """Items of growing length."""
    return [
        {"id": str(number), "words": "broken" if number in damaged else " ".join(["3"] * (1 + number % 7))}
        for number in range(count)
    ]


def dataset(sets: list, rank: int = 0, world: int = 1, micro_batch: int | None = None) -> StepDataset:
    tasks = [Task(name, (("words",),), "none") for name in ("one", "two")]
    reader = ToyReader(ToyConfig())
    pipelines = {task.name: TaskPipeline(task, {"words": reader}, NoTargets()) for task in tasks}
    streams = {task.name: Stream(sets, None, BATCH, 1) for task in tasks}
    order = TaskOrder({"one": 1, "two": 2}, 5)
    return StepDataset(order, streams, pipelines, rank, world, {"one": micro_batch, "two": None})


def ids(batches: list[TaskBatch]) -> list[str]:
    return [id for batch in batches for id in batch.ids]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_ranks_together_have_the_batch_of_one(world: int) -> None:
    sets = [samples(50)]
    for step in range(9):
        alone = dataset(sets)[step]
        shared = [dataset(sets, rank, world)[step] for rank in range(world)]
        assert {batch.task for batches in [alone, *shared] for batch in batches} == {alone[0].task}
        assert sorted(ids(alone)) == sorted(id for batches in shared for id in ids(batches))
        assert {len(ids(batches)) for batches in shared} == {BATCH // world}


@pytest.mark.parametrize("micro_batch", [1, 4, 5, 12, 99])
def test_micro_batches_are_equal_in_number_and_sorted_by_length(micro_batch: int) -> None:
    for world in (1, 2):
        steps = [dataset([samples(50)], rank, world, micro_batch) for rank in range(world)]
        step = next(step for step in range(9) if steps[0][step][0].task == "one")
        batches = [each[step] for each in steps]
        assert {len(each) for each in batches} == {-(-BATCH // world // micro_batch) if micro_batch < BATCH else 1}
        for each in batches:
            lengths = [length for batch in each for length in batch.towers[0][0]["lengths"].tolist()]
            assert lengths == sorted(lengths)
            assert max(len(batch.ids) for batch in each) <= micro_batch


def test_damaged_samples_are_replaced_the_same_way_on_any_rank_and_reported() -> None:
    sets = [samples(50, frozenset(range(0, 50, 5)))]
    reported: set[str] = set()
    for step in range(9):
        alone = dataset(sets)[step]
        again = dataset(sets)[step]
        ranks = [batch for rank in range(3) for batch in dataset(sets, rank, 3)[step]]
        assert ids(alone) == ids(again) and sorted(ids(alone)) == sorted(ids(ranks))
        assert len(ids(alone)) == BATCH and not any(int(id) % 5 == 0 for id in ids(alone))
        damaged = sorted(item for batch in alone for item in batch.damaged)
        assert damaged == sorted(item for batch in ranks for item in batch.damaged)
        assert all("not numbers" in reason for _, reason in damaged)
        reported |= {id for id, _ in damaged}
    assert reported == {str(number) for number in range(0, 50, 5)}


def test_a_set_of_damaged_samples_fails_in_bounded_time() -> None:
    with pytest.raises(FailedJob, match=rf"{MAX_DAMAGED} samples in a row cannot be read.*not numbers"):
        dataset([samples(40, frozenset(range(40)))])[0]


def test_a_batch_that_the_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match="a batch of 12 is not divisible by 5 processes"):
        dataset([samples(50)], 0, 5)


def test_batches_larger_than_the_set_go_on_into_the_next_epoch() -> None:
    (batch,) = dataset([samples(5)])[0]
    assert len(batch.ids) == BATCH and set(batch.ids) == set("01234")


def test_loader_processes_give_what_this_one_gives_from_any_step_on(make_set: MakeSet) -> None:
    steps = dataset([make_set(items=40).split("train")], micro_batch=5)
    wanted = [ids(steps[step]) for step in range(3, 9)]
    loader = DataLoader(steps, sampler=range(3, 9), batch_size=None, num_workers=2)
    assert [ids(batches) for batches in loader] == wanted


def test_it_is_cheap_to_copy(make_set: MakeSet) -> None:
    steps = dataset([make_set(items=300).split("train")])
    steps[0]
    copy = pickle.dumps(steps)
    assert len(copy) < 30_000
    assert ids(pickle.loads(copy)[7]) == ids(steps[7])
