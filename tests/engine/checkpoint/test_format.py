"""A checkpoint is whole or does not count, wherever its writing is cut off."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from skillnet_cli.api import FailedJob
from skillnet_cli.engine.checkpoint import format as checkpoints
from skillnet_cli.engine.checkpoint.format import Checkpoints, Chunk, Draft

TENSORS = {"model": {"a": torch.arange(6.0).reshape(2, 3)}, "optimizer": {"a/step": torch.tensor(3.0)}}


def save(root: Path, step: int, keep: int = 9, every: int = 1) -> None:
    """What one process does for a checkpoint, from its first call to its last."""
    Checkpoints(root).clear()
    draft = Draft(root, step, "x")
    parts = {
        kind: {name: (tensor, Chunk.all_of(tensor.shape)) for name, tensor in some.items()}
        for kind, some in TENSORS.items()
    }
    draft.write(0, parts, {"at": step, "word": "识别"}, describe)
    draft.publish([0])
    Checkpoints(root).prune(keep, every)


def describe(folder: Path) -> None:
    (folder / "assets").mkdir(parents=True)
    (folder / "assets" / "vocab.txt").write_text("识\n别\n", encoding="utf-8")


def newest(root: Path) -> int | None:
    found = Checkpoints(root).latest()
    return found.step if found else None


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    save(tmp_path, 7)
    found = Checkpoints(tmp_path).latest()
    assert found is not None and found.step == 7 and found.state() == {"at": 7, "word": "识别"}
    found.verify()
    for kind, tensors in TENSORS.items():
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in found.tensors(kind).items())
    assert (found.folder / "description" / "assets" / "vocab.txt").read_text(encoding="utf-8") == "识\n别\n"


def test_the_newest_n_are_kept(tmp_path: Path) -> None:
    for step in (2, 10, 9, 30):
        save(tmp_path, step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-30"]


def test_one_that_a_signal_asked_for_takes_no_other_place(tmp_path: Path) -> None:
    kept = []
    for step in (4, 8, 9, 11, 12):
        save(tmp_path, step, keep=2, every=4)
        kept.append(sorted(int(path.name[5:]) for path in tmp_path.iterdir()))
    assert kept == [[4], [4, 8], [4, 8, 9], [4, 8, 11], [8, 12]]


def test_none_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nowhere").latest() is None


CUTS: dict[str, Callable[[Path], Any]] = {
    "no marker": lambda folder: (folder / "complete.json").unlink(),
    "half a marker": lambda folder: (folder / "complete.json").write_text('{"state.js'),
    "a file cut off": lambda folder: (folder / "model.safetensors").write_bytes(b"12"),
    "a file missing": lambda folder: (folder / "optimizer.safetensors").unlink(),
    "half a state": lambda folder: (folder / "state.json").write_text("{"),
    "a marker without files": lambda folder: (folder / "complete.json").write_text('{"files": 3}'),
    "an odd name": lambda folder: folder.rename(folder.with_name("step-8.old")),
}


REPORTED = {
    "half a marker": "complete.json cannot be read",
    "a marker without files": "complete.json cannot be read (files: must be a table, not 3)",
    "a file cut off": "model.safetensors has 2 of ",
    "a file missing": "optimizer.safetensors is missing",
    "half a state": "state.json has 1 of ",
}
"""What was complete once and is no longer is, is reported; what never was, is not."""


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_off_checkpoint_is_passed_over(cut: str, tmp_path: Path) -> None:
    save(tmp_path, 4)
    save(tmp_path, 8)
    CUTS[cut](tmp_path / "step-8")
    assert newest(tmp_path) == 4
    reported = list(Checkpoints(tmp_path).damaged())
    skipped = f"skipping the damaged checkpoint {tmp_path / 'step-8'}: "
    assert [skipped in line and REPORTED[cut] in line for line in reported] == [True] * (cut in REPORTED)
    save(tmp_path, 8)
    assert newest(tmp_path) == 8


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it may run."""


def test_killed_at_every_call_of_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever system call is the last one, the newest complete checkpoint is the old or the whole new one."""
    outcomes = set()
    for limit in range(60):
        root = tmp_path / str(limit)
        save(root, 4)
        with monkeypatch.context() as patch:
            finished = _save_killed_after(patch, root, limit)
        found = Checkpoints(root).latest()
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
        patch.setattr(os, name, counted(getattr(os, name)))
    patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
    patch.setattr(checkpoints, "write_tensors", counted(checkpoints.write_tensors))
    for name in ("write_text", "unlink", "mkdir"):
        patch.setattr(Path, name, counted(getattr(Path, name)))
    try:
        save(root, 8, keep=1)
    except Killed:
        return False
    return True


def test_an_altered_file_is_named_and_what_to_do(tmp_path: Path) -> None:
    save(tmp_path, 4)
    file = tmp_path / "step-4" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    found = Checkpoints(tmp_path).latest()
    assert found is not None
    with pytest.raises(FailedJob, match=r"model\.safetensors: checksum mismatch: delete .*step-4 to resume"):
        found.verify()


def test_the_ranks_verify_every_file_between_them(tmp_path: Path) -> None:
    save(tmp_path, 4)
    found = Checkpoints(tmp_path).latest()
    assert found is not None
    for name in found.files:
        content = (found.folder / name).read_bytes()
        (found.folder / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
        complaints = 0
        for rank in range(3):
            try:
                found.verify(rank, 3)
            except FailedJob as error:
                complaints += name in str(error)
        assert complaints == 1
        (found.folder / name).write_bytes(content)


class Canary:
    """Would leave a file behind if anybody unpickled it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "pytorch_model.bin", "description/rng.pkl"])
def test_a_planted_pickle_is_refused_and_not_run(file: str, tmp_path: Path) -> None:
    save(tmp_path / "run", 4)
    folder = tmp_path / "run" / "step-4"
    planted = pickle.dumps(Canary(tmp_path / "canary"))
    size = (folder / file).stat().st_size if (folder / file).exists() else len(planted)
    (folder / file).write_bytes(planted.ljust(size, b"\0"))
    if file in ("model.safetensors",):  # as the attacker would, who cannot be kept from this
        marker = json.loads((folder / "complete.json").read_text())
        marker["files"][file] = {"bytes": size, "crc32": zlib.crc32((folder / file).read_bytes())}
        (folder / "complete.json").write_text(json.dumps(marker))
    found = Checkpoints(tmp_path / "run").latest()
    assert found is not None
    with pytest.raises(FailedJob, match=f"{file}: (damaged|pickled state is never read)") as caught:
        found.verify()
        found.tensors("model")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "canary").exists()
    pickle.loads(planted).close()
    assert (tmp_path / "canary").exists()


def test_damage_inside_a_file_is_named(tmp_path: Path) -> None:
    save(tmp_path, 4)
    file = tmp_path / "step-4" / "model.safetensors"
    file.write_bytes(b"\xff" * file.stat().st_size)
    found = Checkpoints(tmp_path).latest()
    assert found is not None
    with pytest.raises(FailedJob, match=r"model\.safetensors: damaged .*delete .*step-4"):
        found.tensors("model")


def test_nothing_in_a_checkpoint_is_pickled(tmp_path: Path) -> None:
    save(tmp_path, 4)
    names = {path.name for path in (tmp_path / "step-4").rglob("*") if path.is_file()}
    assert names == {"model.safetensors", "optimizer.safetensors", "state.json", "vocab.txt", "complete.json"}
    assert json.loads((tmp_path / "step-4" / "state.json").read_text())["at"] == 4
