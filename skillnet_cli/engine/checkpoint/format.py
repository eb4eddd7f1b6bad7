"""Checkpoints: folders ``step-N`` that are complete or do not count. Tensors are safetensors, the rest JSON.

Last of all a folder gets its marker, which lists every file with its size and crc32. What has no marker was cut off
and is not taken for a checkpoint; neither is one whose files have other sizes, and that is reported. A file says which
chunk of which tensor it has, so that any number of ranks can read what another number has saved.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from skillnet_cli.api import FailedJob
from skillnet_cli.model.checkpoint import PICKLED

CHUNKS = "slices"
"""The key of a file's metadata that says of each tensor in it, unless it is whole, what it is a slice of and where."""


@dataclass(frozen=True)
class Chunk:
    """A part of a tensor: the shape of the whole, where the part begins in it, and the part's own shape."""

    whole: tuple[int, ...]
    begin: tuple[int, ...]
    size: tuple[int, ...]

    @classmethod
    def all_of(cls, shape: Sequence[int]) -> Chunk:
        """The whole of a tensor of that shape."""
        return cls(tuple(shape), (0,) * len(shape), tuple(shape))

    def common(self, other: Chunk) -> Chunk | None:
        """What both have of the tensor, None where that is nothing."""
        begin = tuple(map(max, self.begin, other.begin))
        size = tuple(
            min(a + m, b + n) - c
            for a, m, b, n, c in zip(self.begin, self.size, other.begin, other.size, begin, strict=True)
        )
        return Chunk(self.whole, begin, size) if all(length > 0 for length in size) else None

    def place_of(self, inner: Chunk) -> tuple[slice, ...]:
        """Where a box that lies in this one is, by this one's own indices."""
        starts = [a - b for a, b in zip(inner.begin, self.begin, strict=True)]
        return tuple(slice(start, start + length) for start, length in zip(starts, inner.size, strict=True))


def chunk_of(tensor: Tensor) -> Chunk:
    """The part of a tensor that this rank holds; all of it unless ranks share it."""
    if not isinstance(tensor, DTensor):
        return Chunk.all_of(tensor.shape)
    (chunk,) = tensor.__create_chunk_list__()  # what torch.distributed.checkpoint goes by
    return Chunk(tuple(tensor.shape), tuple(chunk.offsets), tuple(chunk.sizes))


def local_shard(tensor: Tensor) -> Tensor:
    """The memory of that part."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def is_sharded(tensor: Tensor) -> bool:
    """Whether ranks hold different parts of a tensor."""
    if not isinstance(tensor, DTensor):
        return False
    sizes = tensor.device_mesh.shape
    return any(kind.is_shard() and size > 1 for kind, size in zip(tensor.placements, sizes, strict=True))


def is_saved_here(tensor: Tensor, rank: int) -> bool:
    """Whether this rank saves what it holds of a tensor: of ranks that hold the same, the first one does."""
    if not isinstance(tensor, DTensor):
        return rank == 0
    place = tensor.device_mesh.get_coordinate() or ()
    copies = (number for number, kind in zip(place, tensor.placements, strict=True) if kind.is_replicate())
    return local_shard(tensor).numel() > 0 and not any(copies)


def with_layout_of(part: Tensor, like: Tensor) -> Tensor:
    """A tensor of the shape and layout of ``like``, whose part on this rank is ``part``."""
    part = part.to(like.device)
    if not isinstance(like, DTensor):
        return part
    return DTensor.from_local(part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())


def write_chunks(path: Path, parts: Mapping[str, tuple[Tensor, Chunk]]) -> None:
    """Write parts of tensors into one safetensors file."""
    cut = {name: [box.whole, box.begin] for name, (_, box) in parts.items() if box.size != box.whole}
    metadata = {"format": "pt", **({CHUNKS: json.dumps(cut)} if cut else {})}
    save_file({name: tensor for name, (tensor, _) in parts.items()}, path, metadata=metadata)


class ShardedTensors:
    """Tensors that lie in one or several files, each whole or in slices. Nothing is read before it is asked for."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Raises FailedJob where a file is no safetensors file, or does not say what its slices are of."""
        self._parts: dict[str, list[tuple[Path, Any, Chunk]]] = defaultdict(list)
        for path in paths:
            with _damage_told(path):
                self._open(path)

    def _open(self, path: Path) -> None:
        file: Any = safe_open(path, framework="pt")
        cut = json.loads((file.metadata() or {}).get(CHUNKS, "{}"))
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            size = tuple(file.get_slice(name).get_shape())
            whole, begin = map(tuple, cut.get(name, (size, (0,) * len(size))))
            box = Chunk(whole, begin, size)
            if box.common(Chunk.all_of(whole)) != box and 0 not in size:
                raise ValueError(f"tensor '{name}' lies outside itself")
            self._parts[name].append((path, file, box))

    @property
    def names(self) -> list[str]:
        """All tensors, in alphabetical order."""
        return sorted(self._parts)

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor as a whole."""
        return self._parts[name][0][2].whole

    def read(self, name: str, wanted: Chunk | None = None) -> Tensor:
        """A part of a tensor, by default all of it; of the files, only what overlaps with it is read.

        Raises:
            FailedJob: a file is damaged, or the files do not have all of the part.
        """
        wanted = wanted or Chunk.all_of(self.shape(name))
        for path, file, box in self._parts[name]:
            if box == wanted:
                with _damage_told(path):
                    return file.get_tensor(name)
        return self._put_together(name, wanted)

    def _put_together(self, name: str, wanted: Chunk) -> Tensor:
        path, file, _ = self._parts[name][0]
        found, missing = torch.empty(wanted.size, dtype=file.get_slice(name)[0:0].dtype), math.prod(wanted.size)
        for path, file, box in self._parts[name]:
            common = wanted.common(box)
            if common is not None:
                with _damage_told(path):
                    found[wanted.place_of(common)] = file.get_slice(name)[box.place_of(common)]
                missing -= math.prod(common.size)
        if missing:
            raise FailedJob(f"{path.parent}: {missing:,} numbers of tensor '{name}' are in none of its files")
        return found


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Raises FailedJob, naming the file, where what was read of it makes no sense."""
    try:
        yield
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise FailedJob(f"{path}: damaged ({told}); delete {path.parent} to go on from the one before") from error


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

    def slices(self, name: str) -> ShardedTensors:
        """The tensors saved under ``name``, to be read in parts. Raises FailedJob where a file is damaged."""
        ours = re.compile(rf"{name}(-\d+-of-\d+)?\.safetensors")
        return ShardedTensors(self.folder / file for file in sorted(self.files) if ours.fullmatch(file))

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
