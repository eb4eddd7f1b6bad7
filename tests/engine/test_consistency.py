"""A run goes on with the data it was trained on, or says what has changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.engine import consistency as data_changes
from skillnet_cli.engine.launch import launch
from skillnet_cli.files import sha256_of
from skillnet_cli.plugins import load_registry
from tests.workbench import TARGETS, World, make_set, tasks

SETTINGS: dict[str, Any] = {
    "finetune__tasks": tasks("sort", "fill", datasets=["words"], batch=4),
    "finetune__steps": 8,
}


@pytest.fixture
def stopped(world: World) -> World:
    """A run that was stopped after four of eight steps, on a set of four shards."""
    make_set(world.folder / "data", "words", shard_items=12)
    world.train(**SETTINGS)
    shutil.rmtree(world.run() / "finetune" / "model")
    shutil.rmtree(world.run() / "finetune" / "checkpoints" / "step-8")
    return world


def go_on(world: World, allowed: bool = False) -> None:
    launch(world.recipe(**SETTINGS), "finetune", load_registry(), world.run(), world.roots, allow_data_change=allowed)


def shard(world: World, number: int = 2) -> Path:
    return world.folder / "data" / "words" / f"train-{number:06d}.tar"


def delete(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


def flip(path: Path) -> None:
    """One bit in the middle of it; the size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose_table(path: Path) -> None:
    path.with_suffix(".index.npy").unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (delete, "is missing"),
        (cut, "was altered: it has "),
        (flip, "was altered: checksum mismatch"),
        (lose_table, "has no train-000002.index.npy"),
    ],
)
def test_a_shard_that_is_not_as_it_was_is_refused_and_may_be_left_out(stopped: World, change: Any, said: str) -> None:
    change(shard(stopped))
    with pytest.raises(UserError) as caught:
        go_on(stopped)
    first, line, *_, last = str(caught.value).splitlines()
    assert first == "the data is not what this run was trained on:" and "--allow-data-change" in last
    assert line.startswith(f"  words: train-000002.tar {said}")
    go_on(stopped, allowed=True)
    (row,) = stopped.rows("data")
    assert row["step"] == 4 and row["change"] == line.strip()
    assert [row["step"] for row in stopped.rows()] == list(range(1, 9))


def test_what_was_allowed_once_need_not_be_allowed_again(stopped: World) -> None:
    delete(shard(stopped))
    go_on(stopped, allowed=True)
    shutil.rmtree(stopped.run() / "finetune" / "model")
    go_on(stopped)
    assert (stopped.run() / "model").exists()


def test_a_set_prepared_anew_is_refused_where_it_holds_something_else(stopped: World) -> None:
    make_set(stopped.folder / "data", "words", shard_items=12)
    go_on(stopped)
    shutil.rmtree(stopped.run() / "finetune" / "model")
    make_set(stopped.folder / "data", "words", shard_items=12, letters=["hgfedcba"])
    with pytest.raises(UserError) as caught:
        go_on(stopped)
    assert str(caught.value).splitlines()[1:-1] == ["  words: train-000000.tar was prepared again with other content"]


def test_other_labels_are_always_refused(stopped: World) -> None:
    make_set(stopped.folder / "data", "words", shard_items=12, targets={**TARGETS, "label": ["even", "odd"]})
    with pytest.raises(UserError, match=r"the labels have changed since this run started, of task 'sort' \(words\)"):
        go_on(stopped, allowed=True)


def test_a_new_run_does_not_start_on_half_a_set(world: World) -> None:
    make_set(world.folder / "data", "words", shard_items=12)
    delete(shard(world))
    with pytest.raises(
        UserError, match=r"^the data is not as it was prepared:\n  words: train-000002.tar is missing\n"
    ):
        world.train(**SETTINGS)
    assert not world.run().exists()


def test_content_is_read_only_where_times_differ(stopped: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data copied to another machine is read once, and then is known."""
    read: list[str] = []
    monkeypatch.setattr(data_changes, "sha256_of", lambda path: read.append(path.name) or sha256_of(path))
    os.utime(shard(stopped, 1), (1, 1))
    go_on(stopped)
    assert read == ["train-000001.tar"]
    shutil.rmtree(stopped.run() / "finetune" / "model")
    go_on(stopped)
    assert read == ["train-000001.tar"]
