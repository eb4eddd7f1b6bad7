"""A save goes on beside the training, is of the step it was asked for at, and fails aloud."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from skillnet_cli.api import FailedJob
from skillnet_cli.engine.checkpoint import format as checkpoints
from skillnet_cli.engine.checkpoint.format import Checkpoints
from skillnet_cli.engine.checkpoint.writer import CheckpointWriter
from skillnet_cli.engine.distributed.mesh import Ranks, process_group
from skillnet_cli.recipe.schema import CheckpointSection
from tests.ranks import run_ranks

ALONE = Ranks(0, 1, torch.device("cpu"))


def saver(root: Path, ranks: Ranks = ALONE, sharded: bool = False, keep: int = 2) -> CheckpointWriter:
    return CheckpointWriter(root, ranks, CheckpointSection(every=1, keep=keep), sharded)


def _full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def tensors(value: float) -> dict[str, dict[str, torch.Tensor]]:
    return {"model": {"a": torch.full((4, 2), value)}, "optimizer": {}}


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Nothing is written while it is shut; it begins open."""
    opened = threading.Event()
    opened.set()
    original = checkpoints.write_tensors

    def held(*arguments: Any, **options: Any) -> None:
        assert opened.wait(60)
        original(*arguments, **options)

    monkeypatch.setattr(checkpoints, "write_tensors", held)
    yield opened
    opened.set()


def newest(root: Path) -> int | None:
    found = Checkpoints(root).latest()
    return found.step if found else None


def test_the_training_goes_on_while_its_state_is_written(tmp_path: Path, gate: threading.Event) -> None:
    state = tensors(1.0)
    with saver(tmp_path) as open_saver:
        gate.clear()
        assert open_saver.save(3, state, {"at": 3}) is None
        state["model"]["a"].fill_(9.0)
        assert open_saver.check() is None and newest(tmp_path) is None
        gate.set()
        saved = open_saver.wait()
        assert saved is not None and saved.step == 3 and 0 <= saved.held <= saved.seconds
        assert open_saver.wait() is None and open_saver.check() is None
    found = Checkpoints(tmp_path).latest()
    assert found is not None and torch.equal(found.tensors("model")["a"], torch.full((4, 2), 1.0))


def test_the_one_before_stays_until_the_next_is_complete(tmp_path: Path, gate: threading.Event) -> None:
    with saver(tmp_path, keep=1) as open_saver:
        open_saver.save(1, tensors(1.0), {})
        open_saver.wait()
        gate.clear()
        open_saver.save(2, tensors(2.0), {})
        assert open_saver.check() is None and newest(tmp_path) == 1
        gate.set()
        open_saver.wait()
        assert newest(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step-2"]


def test_the_next_save_waits_for_the_one_before(tmp_path: Path) -> None:
    with saver(tmp_path) as open_saver:
        open_saver.save(1, tensors(1.0), {})
        before = open_saver.save(2, tensors(2.0), {})
        assert before is not None and before.step == 1 and newest(tmp_path) == 1
        open_saver.wait()
    found = Checkpoints(tmp_path).latest()
    assert found is not None and found.step == 2 and torch.equal(found.tensors("model")["a"], torch.full((4, 2), 2.0))


def test_new_tensors_join_and_old_memory_is_used_again(tmp_path: Path) -> None:
    with saver(tmp_path) as open_saver:
        open_saver.save(1, tensors(1.0), {})
        open_saver.wait()
        memory = {name: copy.data_ptr() for name, copy in open_saver._copies.items()}
        open_saver.save(2, {**tensors(2.0), "optimizer": {"a/step": torch.tensor(7.0)}}, {})
        open_saver.wait()
        assert memory.items() <= {name: copy.data_ptr() for name, copy in open_saver._copies.items()}.items()
    found = Checkpoints(tmp_path).latest()
    assert found is not None and found.tensors("optimizer")["a/step"] == 7.0


def test_a_full_disk_is_reported_at_the_next_call_and_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with saver(tmp_path) as open_saver:
        open_saver.save(4, tensors(4.0), {})
        open_saver.wait()
        monkeypatch.setattr(checkpoints, "write_tensors", _full)
        open_saver.save(8, tensors(8.0), {})
        with pytest.raises(FailedJob, match=r"^cannot save .*step-8: .*No space left.*earlier checkpoints are intact$"):
            open_saver.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["step-4"] and newest(tmp_path) == 4


def test_what_was_cut_off_is_cleared_away(tmp_path: Path) -> None:
    for name in (".step-3.0000abcd.partial", "step-3"):
        (tmp_path / name / "description").mkdir(parents=True)
    with saver(tmp_path):
        assert not list(tmp_path.iterdir())


def _second_disk_is_full(root: Path) -> None:
    with process_group() as ranks, saver(root, ranks, sharded=True) as open_saver:
        open_saver.save(1, tensors(1.0), {})
        open_saver.wait()
        if ranks.rank == 1:
            checkpoints.write_tensors = _full
        open_saver.save(2, tensors(2.0), {})
        open_saver.wait()


def test_a_disk_full_for_one_rank_ends_all_in_its_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_ranks(2, _second_disk_is_full, tmp_path) == [1, 1]
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skillnet: error")]
    assert len(told) == 2 and told[0] == told[1]
    assert told[0].startswith("skillnet: error: process 1: cannot save the checkpoint") and "No space left" in told[0]
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def _folders_of_their_own(root: Path) -> None:
    with process_group() as ranks, saver(root / str(ranks.rank), ranks, sharded=True) as open_saver:
        open_saver.save(1, tensors(1.0), {})
        open_saver.wait()


def test_machines_without_a_shared_folder_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_ranks(2, _folders_of_their_own, tmp_path) == [1, 1]
    assert "the files of process 1 are not in" in (told := capfd.readouterr().err)
    assert "must be shared by all machines" in told
