"""A checkpoint is whole or does not count, wherever its writing is cut off."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from skillnet_cli.api import FailedJob
from skillnet_cli.engine import checkpoints

TENSORS = {"model": {"a": torch.arange(6.0).reshape(2, 3)}, "optimizer": {"a/step": torch.tensor(3.0)}}


def save(root: Path, step: int, keep: int = 9) -> None:
    checkpoints.save(root, step, TENSORS, {"at": step}, keep)


def newest(root: Path) -> int | None:
    found = checkpoints.latest(root)
    return found.step if found else None


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    transposed = {"model": {"a": TENSORS["model"]["a"].T}}
    checkpoints.save(tmp_path, 7, transposed, {"word": "识别"}, keep=1)
    found = checkpoints.latest(tmp_path)
    assert found is not None and found.step == 7 and found.state() == {"word": "识别"}
    assert torch.equal(found.tensors("model")["a"], transposed["model"]["a"])


def test_the_newest_n_are_kept(tmp_path: Path) -> None:
    for step in (2, 10, 9, 30):
        save(tmp_path, step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-30"]


def test_none_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path / "nowhere") is None


CUTS: dict[str, Callable[[Path], Any]] = {
    "no marker": lambda folder: (folder / "complete.json").unlink(),
    "half a marker": lambda folder: (folder / "complete.json").write_text('{"state.js'),
    "a file cut off": lambda folder: (folder / "model.safetensors").write_bytes(b"12"),
    "a file missing": lambda folder: (folder / "optimizer.safetensors").unlink(),
    "half a state": lambda folder: (folder / "state.json").write_text("{"),
    "an odd name": lambda folder: folder.rename(folder.with_name("step-8.old")),
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_off_checkpoint_is_passed_over(cut: str, tmp_path: Path) -> None:
    save(tmp_path, 4)
    save(tmp_path, 8)
    CUTS[cut](tmp_path / "step-8")
    assert newest(tmp_path) == 4
    save(tmp_path, 8)
    assert newest(tmp_path) == 8


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it may run."""


def test_killed_at_every_call_of_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever system call is the last one, the newest complete checkpoint is the old or the whole new one."""
    outcomes = set()
    for limit in range(40):
        root = tmp_path / str(limit)
        save(root, 4)
        with monkeypatch.context() as patch:
            finished = _save_killed_after(patch, root, limit)
        found = checkpoints.latest(root)
        assert found is not None and found.step in (4, 8)
        assert torch.equal(found.tensors("model")["a"], TENSORS["model"]["a"])
        outcomes.add((found.step, finished))
        save(root, 12)
        assert newest(root) == 12 and not list(root.glob(".*"))
    assert outcomes >= {(4, False), (8, False), (8, True)}


def _save_killed_after(patch: pytest.MonkeyPatch, root: Path, limit: int) -> bool:
    calls = iter(range(limit))

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls, None) is None:
                raise Killed
            return original(*args, **kwargs)

        return call

    for name in ("replace", "fsync"):
        patch.setattr(checkpoints.os, name, counted(getattr(checkpoints.os, name)))
    patch.setattr(checkpoints.shutil, "rmtree", counted(checkpoints.shutil.rmtree))
    patch.setattr(checkpoints, "save_file", counted(checkpoints.save_file))
    for name in ("write_text", "unlink", "mkdir"):
        patch.setattr(Path, name, counted(getattr(Path, name)))
    try:
        save(root, 8, keep=1)
    except Killed:
        return False
    return True


def test_a_full_disk_leaves_the_earlier_one_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 4)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(FailedJob, match=r"cannot save .*step-8: .*No space left.*earlier checkpoints are intact"):
        save(tmp_path, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["step-4"]


def test_damage_inside_a_file_is_named(tmp_path: Path) -> None:
    save(tmp_path, 4)
    file = tmp_path / "step-4" / "model.safetensors"
    file.write_bytes(b"\xff" * file.stat().st_size)
    found = checkpoints.latest(tmp_path)
    assert found is not None
    with pytest.raises(FailedJob, match=r"model\.safetensors: damaged .*delete .*step-4"):
        found.tensors("model")


def test_nothing_in_a_checkpoint_is_pickled(tmp_path: Path) -> None:
    save(tmp_path, 4)
    names = {path.name for path in (tmp_path / "step-4").iterdir()}
    assert names == {"model.safetensors", "optimizer.safetensors", "state.json", "complete.json"}
    assert json.loads((tmp_path / "step-4" / "state.json").read_text()) == {"at": 4}
