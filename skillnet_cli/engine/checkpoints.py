"""Checkpoints: folders ``step-N`` that are whole or do not count. Tensors are safetensors, the rest JSON.

A folder is written under a temporary name, synced, renamed, and last of all given its marker, which lists every file
with its size. What has no marker, or files of other sizes, was cut off and is not taken for a checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from skillnet_cli.api import FailedJob

MARKER = "complete.json"
STATE = "state.json"
_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    folder: Path
    step: int

    def state(self) -> dict[str, Any]:
        """What is no tensor: how far the run has come, its recipe."""
        state: dict[str, Any] = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        return state

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors saved under ``name``. Raises FailedJob where the file is damaged."""
        file = self.folder / f"{name}.safetensors"
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise FailedJob(f"{file}: damaged ({error}); delete {self.folder} to go on from the one before") from error


def save(
    root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], keep: int
) -> Checkpoint:
    """Write the checkpoint of ``step`` and delete all but the newest ``keep``.

    Raises:
        FailedJob: it cannot be written, because the disk is full for instance; the earlier ones stay.
    """
    fresh, folder = root / f".step-{step}.partial", root / f"step-{step}"
    try:
        _clear(root)
        fresh.mkdir(parents=True)
        _write(fresh, tensors, state)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(fresh, folder)
        _mark(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise FailedJob(f"cannot save the checkpoint {folder}: {error}; earlier checkpoints are intact") from error
    for old in sorted(complete(root), key=lambda checkpoint: checkpoint.step)[:-keep]:
        _delete(old.folder)
    return Checkpoint(folder, step)


def latest(root: Path) -> Checkpoint | None:
    """The newest complete checkpoint, or None."""
    return max(complete(root), key=lambda checkpoint: checkpoint.step, default=None)


def complete(root: Path) -> Iterator[Checkpoint]:
    """All complete checkpoints, in no order."""
    for folder in root.glob("step-*"):
        found = _NAME.fullmatch(folder.name)
        if found and _is_complete(folder):
            yield Checkpoint(folder, int(found.group(1)))


def _write(fresh: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    for name, table in tensors.items():
        save_file({key: tensor.contiguous() for key, tensor in table.items()}, fresh / f"{name}.safetensors")
    (fresh / STATE).write_text(json.dumps(state, ensure_ascii=False, indent=1), encoding="utf-8")
    for file in fresh.iterdir():
        _sync(file)
    _sync(fresh)


def _mark(folder: Path) -> None:
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    partial = folder / f".{MARKER}.partial"
    partial.write_text(json.dumps(sizes), encoding="utf-8")
    _sync(partial)
    os.replace(partial, folder / MARKER)
    _sync(folder)
    _sync(folder.parent)


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def _delete(folder: Path) -> None:
    """The marker goes first, so that a deletion cut off leaves nothing that looks whole."""
    (folder / MARKER).unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _clear(root: Path) -> None:
    for left in root.glob(".step-*.partial"):
        shutil.rmtree(left)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
