"""How a checkpoint comes about: written aside by all ranks, synced, renamed, and last of all marked as complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from skillnet_cli.api import FailedJob
from skillnet_cli.data.files import sync_folder, write_whole
from skillnet_cli.engine.saving.checkpoints import MARKER, STATE, Checkpoint, complete, crc32_of_file
from skillnet_cli.engine.saving.slices import Box, write_slices

DESCRIPTION = "description"
"""The folder of what is the same in all checkpoints: the model's configuration and its readers' assets."""

Parts = Mapping[str, Mapping[str, tuple[Tensor, Box]]]
"""What one rank writes: under the name of each file, tensors and which part of the whole they are."""


@dataclass(frozen=True)
class Draft:
    """A checkpoint under way. ``writers`` is how many ranks hold parts of it; ``token`` tells attempts apart."""

    root: Path
    step: int
    token: str
    writers: int = 1

    @property
    def folder(self) -> Path:
        """Where it is written until it is whole."""
        return self.root / f".step-{self.step}.{self.token}.partial"

    @property
    def target(self) -> Path:
        """Where it will be."""
        return self.root / f"step-{self.step}"

    def write(
        self,
        rank: int,
        parts: Parts,
        state: Mapping[str, Any] | None = None,
        describe: Callable[[Path], None] | None = None,
    ) -> None:
        """Have this rank's files on the disk, and a note of them for the rank that publishes.

        Args:
            parts: its tensors.
            state: what is no tensor; one rank writes it.
            describe: writes what a model's folder has beside its weights into a new folder.

        Raises:
            OSError, SafetensorError: the disk does not take them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        written = [self.folder / self._file_name(name, rank) for name in parts]
        for path, tensors in zip(written, parts.values(), strict=True):
            write_slices(path, tensors)
        if state is not None:
            (self.folder / STATE).write_text(json.dumps(state, ensure_ascii=False, indent=1), encoding="utf-8")
            written.append(self.folder / STATE)
        if describe is not None:
            describe(self.folder / DESCRIPTION)
            written += sorted(path for path in (self.folder / DESCRIPTION).rglob("*") if path.is_file())
        files = {path.relative_to(self.folder).as_posix(): _sealed(path) for path in written}
        write_whole(self._note(rank), json.dumps(files).encode())
        for folder in {self.folder, *(path.parent for path in written)}:
            sync_folder(folder)

    def publish(self, ranks: Sequence[int]) -> None:
        """Give the folder its name and its marker, once all of ``ranks`` have written their files.

        Raises:
            OSError: the disk does not take it.
            FailedJob: what a rank has written is not in this folder.
        """
        files = {name: facts for rank in ranks for name, facts in self._noted(rank).items()}
        for rank in ranks:
            self._note(rank).unlink()
        shutil.rmtree(self.target, ignore_errors=True)  # never a complete one: that would have been gone on from
        os.replace(self.folder, self.target)
        write_whole(self.target / MARKER, json.dumps({"files": dict(sorted(files.items()))}, indent=1).encode())
        sync_folder(self.target)
        sync_folder(self.root)

    def discard(self) -> None:
        """Leave nothing of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file_name(self, name: str, rank: int) -> str:
        if self.writers == 1:
            return f"{name}.safetensors"
        return f"{name}-{rank + 1:05}-of-{self.writers:05}.safetensors"

    def _note(self, rank: int) -> Path:
        return self.folder / f"written-by-{rank}.json"

    def _noted(self, rank: int) -> dict[str, dict[str, int]]:
        try:
            files: dict[str, dict[str, int]] = json.loads(self._note(rank).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise FailedJob(
                f"what process {rank} saved is not in {self.folder}: the run's folder must be shared by all machines"
            ) from error
        return files


def clear(root: Path) -> None:
    """Take away what attempts that were cut off have left: drafts, and folders without a marker. Nobody may write."""
    for left in [*root.glob(".step-*.partial"), *root.glob("step-*")]:
        if not (left / MARKER).exists():
            shutil.rmtree(left)


def prune(root: Path, keep: int, every: int = 1) -> None:
    """Delete complete checkpoints but the newest and the last ``keep`` of those at a multiple of ``every`` steps.

    So one that a signal asked for, in between, takes nobody's place.
    """
    newest_first = sorted(complete(root), key=lambda checkpoint: -checkpoint.step)
    regular = [checkpoint for checkpoint in newest_first if checkpoint.step % every == 0]
    for old in newest_first[1:]:
        if old not in regular[:keep]:
            _delete(old)


def _delete(checkpoint: Checkpoint) -> None:
    """The marker goes first, so that a deletion cut off leaves nothing that looks whole."""
    (checkpoint.folder / MARKER).unlink()
    shutil.rmtree(checkpoint.folder, ignore_errors=True)


def _sealed(path: Path) -> dict[str, int]:
    """Have a file on the disk; returns its size and checksum."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "crc32": crc32_of_file(path)}
