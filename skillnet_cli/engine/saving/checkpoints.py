"""Checkpoints: folders ``step-N`` that are whole or do not count. Tensors are safetensors, the rest JSON.

Last of all a folder gets its marker, which lists every file with its size and crc32. What has no marker was cut off
and is not taken for a checkpoint; neither is one whose files have other sizes, and that is said.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from skillnet_cli.api import FailedJob
from skillnet_cli.engine.saving.slices import Slices
from skillnet_cli.model.weights import PICKLED

MARKER = "complete.json"
STATE = "state.json"
MODEL, OPTIMIZER, AVERAGE = "model", "optimizer", "average"
"""What the tensors of a training are saved under: parameters, the optimizer's moments, averages of parameters."""

CHUNK = 1 << 22
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

    def slices(self, name: str) -> Slices:
        """The tensors saved under ``name``, to be read in parts. Raises FailedJob where a file is damaged."""
        ours = re.compile(rf"{name}(-\d+-of-\d+)?\.safetensors")
        return Slices(self.folder / file for file in sorted(self.files) if ours.fullmatch(file))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors saved under ``name``, whole. Raises FailedJob where a file is damaged."""
        slices = self.slices(name)
        return {tensor: slices.read(tensor) for tensor in slices.names}

    @cached_property
    def files(self) -> Mapping[str, Mapping[str, int]]:
        """Every file, by its path in the folder, with its ``bytes`` and ``crc32``."""
        return _marked(self.folder)

    def verify(self, rank: int = 0, world: int = 1) -> None:
        """Compare this rank's share of the files with their checksums; together the ranks read each once.

        Raises:
            FailedJob: a file was altered, or there is one that may hold pickled objects, which are never read.
        """
        for path in sorted(self.folder.rglob("*")):
            if path.suffix in PICKLED:
                raise FailedJob(f"{path}: pickled state is never read, and no checkpoint has any: delete the file")
        for name in sorted(self.files)[rank::world]:
            if crc32_of_file(self.folder / name) != self.files[name]["crc32"]:
                raise FailedJob(
                    f"{self.folder / name}: altered since it was saved: "
                    f"delete {self.folder} to go on from the one before"
                )


def latest(root: Path) -> Checkpoint | None:
    """The newest complete checkpoint, or None."""
    return max(complete(root), key=lambda checkpoint: checkpoint.step, default=None)


def complete(root: Path) -> Iterator[Checkpoint]:
    """All complete checkpoints, in no order."""
    return (checkpoint for checkpoint in _named(root) if lack_of(checkpoint.folder) == "")


def damaged(root: Path) -> Iterator[str]:
    """A line for each newer checkpoint than the newest complete one that was complete once, and no longer is."""
    newest = latest(root)
    for checkpoint in sorted(_named(root), key=lambda checkpoint: checkpoint.step):
        if (checkpoint.folder / MARKER).exists() and (newest is None or checkpoint.step > newest.step):
            yield f"{checkpoint.folder} is passed over: {lack_of(checkpoint.folder)}"


def crc32_of_file(path: Path) -> int:
    """The crc32 of a file, read in pieces."""
    checksum = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _named(root: Path) -> Iterator[Checkpoint]:
    for folder in root.glob("step-*"):
        found = _NAME.fullmatch(folder.name)
        if found:
            yield Checkpoint(folder, int(found.group(1)))


def _marked(folder: Path) -> dict[str, dict[str, int]]:
    """What the marker lists. Raises OSError or ValueError where there is none, or half of one."""
    document = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    try:
        return {name: {key: int(facts[key]) for key in ("bytes", "crc32")} for name, facts in document["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("it lists no files") from error


def lack_of(folder: Path) -> str:
    """Why a folder is no complete checkpoint, empty if it is one."""
    try:
        files = _marked(folder)
    except (OSError, ValueError) as error:
        return f"{MARKER} cannot be read ({error})"
    for name, facts in files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError:
            return f"{name} is missing"
        if size != facts["bytes"]:
            return f"{name} has {size:,} of {facts['bytes']:,} bytes"
    return ""
