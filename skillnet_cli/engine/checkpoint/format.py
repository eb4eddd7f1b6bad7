"""Checkpoints on disk: folders ``step-N`` that are complete or do not count. Tensors are safetensors, the rest JSON.

A checkpoint is written into a draft, which every rank adds its files to; then it gets its name, and last of all its
marker, which lists every file with its size and crc32. A folder without a marker was cut off and is not taken for a
checkpoint; neither is one whose files have other sizes or other checksums, and that is reported. Each file says which
chunk of which tensor it holds, so that any number of ranks can read what another number has saved.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor

from skillnet_cli.api import FailedJob
from skillnet_cli.files import CHUNK, PARTIAL, replace_path, sync, write_json
from skillnet_cli.model.checkpoint import PICKLED, write_tensors
from skillnet_cli.pace import advanced
from skillnet_cli.untrusted import Untrusted, parse_json, read_json, validate

MODEL, OPTIMIZER, AVERAGE = "model", "optimizer", "average"
"""What the tensors of a training are saved under: parameters, the optimizer's moments, averages of parameters."""

STATE = "state.json"
"""What is not a tensor: how far the run has come, its recipe."""

DESCRIPTION = "description"
"""The folder of what is the same in all checkpoints: the model's configuration and its readers' assets."""

MARKER = "complete.json"
"""The list of all files, written last."""

CHUNKS = "slices"
"""The key of a file's metadata: of each tensor that the file has only a chunk of, the full shape and the offset."""


_Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]


class _FileFacts(BaseModel):
    bytes: _Count
    crc32: _Count


class _Marker(BaseModel):
    """The document of a :data:`MARKER`."""

    files: dict[str, _FileFacts]


class _Chunks(BaseModel):
    """What is under :data:`CHUNKS`."""

    tensors: dict[str, tuple[tuple[_Count, ...], tuple[_Count, ...]]]


@dataclass(frozen=True)
class Chunk:
    """A box of a tensor: the shape of the full tensor, the offset of the box in it, and the shape of the box."""

    full: tuple[int, ...]
    offset: tuple[int, ...]
    size: tuple[int, ...]

    @classmethod
    def all_of(cls, shape: Sequence[int]) -> Chunk:
        """All of a tensor of that shape."""
        return cls(tuple(shape), (0,) * len(shape), tuple(shape))

    @classmethod
    def of(cls, tensor: Tensor) -> Chunk:
        """What this rank holds of a tensor: all of it unless ranks share it."""
        if not isinstance(tensor, DTensor):
            return cls.all_of(tensor.shape)
        (chunk,) = tensor.__create_chunk_list__()  # what torch.distributed.checkpoint asks too; seen with torch 2.11
        return cls(tuple(tensor.shape), tuple(chunk.offsets), tuple(chunk.sizes))

    def overlap(self, other: Chunk) -> Chunk | None:
        """What both have of the tensor, None if nothing."""
        offset = tuple(map(max, self.offset, other.offset))
        size = tuple(
            min(a + m, b + n) - c
            for a, m, b, n, c in zip(self.offset, self.size, other.offset, other.size, offset, strict=True)
        )
        return Chunk(self.full, offset, size) if all(length > 0 for length in size) else None

    def index_of(self, inner: Chunk) -> tuple[slice, ...]:
        """The index of a chunk that lies in this one, within this one's tensor."""
        starts = [a - b for a, b in zip(inner.offset, self.offset, strict=True)]
        return tuple(slice(start, start + length) for start, length in zip(starts, inner.size, strict=True))


def local_shard(tensor: Tensor) -> Tensor:
    """The memory of what this rank holds of a tensor; :meth:`Chunk.of` says where it belongs."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


class ShardedTensors:
    """Tensors in one or several files, each full or in chunks. Nothing is read before it is asked for."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Raises FailedJob where a file is not a safetensors file, or its chunks do not fit their tensors."""
        self._chunks: dict[str, list[tuple[Path, Any, Chunk]]] = defaultdict(list)
        for path in paths:
            with _damaged_file(path):
                self._open(path)

    def _open(self, path: Path) -> None:
        file: Any = safe_open(path, framework="pt")
        cut = validate(_Chunks, {"tensors": parse_json((file.metadata() or {}).get(CHUNKS, "{}"))}).tensors
        for name in file.keys():  # noqa: SIM118 - it is not a mapping
            size = tuple(file.get_slice(name).get_shape())
            full, offset = cut.get(name, (size, (0,) * len(size)))
            chunk = Chunk(full, offset, size)
            if not len(full) == len(offset) == len(size):
                raise Untrusted(f"a chunk of tensor '{name}' has other dimensions than the tensor")
            if chunk.overlap(Chunk.all_of(full)) != chunk and 0 not in size:
                raise Untrusted(f"a chunk of tensor '{name}' lies outside the tensor")
            if any(other.full != full for _, _, other in self._chunks[name]):
                raise Untrusted(f"the chunks of tensor '{name}' belong to tensors of different shapes")
            self._chunks[name].append((path, file, chunk))

    @property
    def names(self) -> list[str]:
        """All tensors, in alphabetical order."""
        return sorted(self._chunks)

    def __contains__(self, name: str) -> bool:
        return name in self._chunks

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a full tensor."""
        return self._chunks[name][0][2].full

    def read(self, name: str, wanted: Chunk | None = None) -> Tensor:
        """A chunk of a tensor, by default all of it; only what overlaps with it is read from the files.

        Raises:
            FailedJob: a file is damaged, or the files do not have all of the chunk.
        """
        advanced()
        wanted = wanted or Chunk.all_of(self.shape(name))
        for path, file, chunk in self._chunks[name]:
            if chunk == wanted:  # mapped from the file, not copied
                with _damaged_file(path):
                    tensor: Tensor = file.get_tensor(name)
                    return tensor
        path, file, _ = self._chunks[name][0]
        found, missing = torch.empty(wanted.size, dtype=file.get_slice(name)[0:0].dtype), math.prod(wanted.size)
        for path, file, chunk in self._chunks[name]:
            common = wanted.overlap(chunk)
            if common is not None:
                with _damaged_file(path):
                    found[wanted.index_of(common)] = file.get_slice(name)[chunk.index_of(common)]
                missing -= math.prod(common.size)  # what ranks save never overlaps, so nothing is counted twice
        if missing:
            raise FailedJob(f"{path.parent}: {missing:,} values of tensor '{name}' are missing from its files")
        return found


@contextmanager
def _damaged_file(path: Path) -> Iterator[None]:
    """Raises FailedJob, naming the file, where what was read of it makes no sense."""
    try:
        yield
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FailedJob(f"{path}: damaged ({reason}): {_advice(path.parent)}") from error


def _advice(folder: Path) -> str:
    return f"delete {folder} to resume from the checkpoint before it"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk, complete or not."""

    folder: Path
    step: int

    def state(self) -> dict[str, Any]:
        """What is not a tensor: how far the run has come, its recipe. Raises FailedJob where it is damaged."""
        path = self.folder / STATE
        with _damaged_file(path):
            state = read_json(path)
            if not isinstance(state, dict):
                raise Untrusted("is no JSON object")
        return state

    def sharded(self, name: str) -> ShardedTensors:
        """The tensors saved under ``name``, to be read in chunks. Raises FailedJob where a file is damaged."""
        return ShardedTensors(self.folder / file for file in self._of(name, sorted(self.files)))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The full tensors saved under ``name``. Raises FailedJob where a file is damaged."""
        sharded = self.sharded(name)
        return {tensor: sharded.read(tensor) for tensor in sharded.names}

    @cached_property
    def files(self) -> Mapping[str, Mapping[str, int]]:
        """Every file, by its path in the folder, with its ``bytes`` and ``crc32``, as the marker lists them.

        Raises:
            OSError: there is no marker.
            Untrusted: there is half of one, or it lists no files of a checkpoint.
        """
        marker = validate(_Marker, read_json(self.folder / MARKER))
        for name in marker.files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
                raise Untrusted("it lists files that lie elsewhere")
        if STATE not in marker.files or not all(any(self._of(kind, marker.files)) for kind in (MODEL, OPTIMIZER)):
            raise Untrusted("it does not list all files")
        return {name: facts.model_dump() for name, facts in marker.files.items()}

    @staticmethod
    def _of(kind: str, files: Iterable[str]) -> Iterator[str]:
        """The files that have tensors of that kind."""
        ours = re.compile(rf"{kind}(-\d+-of-\d+)?\.safetensors")
        return (file for file in files if ours.fullmatch(file))

    def incomplete(self) -> str:
        """Why the checkpoint is not complete, empty if it is.

        Looks at sizes and at the content of small files, which is quick; :meth:`mismatch` looks at everything.
        """
        try:
            files = self.files
        except (OSError, ValueError) as error:
            return f"{MARKER} cannot be read ({error})"
        for name, facts in files.items():
            try:
                size = (self.folder / name).stat().st_size
            except OSError:
                return f"{name} is missing"
            if size != facts["bytes"]:
                return f"{name} has {size:,} of {facts['bytes']:,} bytes"
        return self._mismatch([STATE])

    def mismatch(self, rank: int = 0, world: int = 1) -> str:
        """Which file, of this rank's share, was altered, empty if none; together the ranks read each file once."""
        return self._mismatch(sorted(self.files)[rank::world])

    def _mismatch(self, names: Iterable[str]) -> str:
        for name in names:
            try:
                if _crc32_of(self.folder / name) != self.files[name]["crc32"]:
                    return f"{name}: checksum mismatch"
            except OSError as error:
                return f"{name} cannot be read ({error.strerror})"
        return ""

    def verify(self, rank: int = 0, world: int = 1) -> None:
        """Compare this rank's share of the files with their checksums; together the ranks read each file once.

        Raises:
            FailedJob: a file was altered, or there is one that may hold pickled objects, which are never read.
        """
        self.refuse_pickles()
        mismatch = self.mismatch(rank, world)
        if mismatch:
            raise FailedJob(f"{self.folder}/{mismatch}: {_advice(self.folder)}")

    def refuse_pickles(self) -> None:
        """Raises FailedJob where a file may hold pickled objects, which are never read."""
        # Whoever can put a pickle here hopes that some tool opens it: say so before anything is read.
        for path in sorted(self.folder.rglob("*")):
            if path.suffix in PICKLED:
                raise FailedJob(f"{path}: pickled state is never read, and no checkpoint has any: delete the file")


@dataclass(frozen=True)
class Checkpoints:
    """All checkpoints of a stage, in one folder."""

    root: Path

    def latest(self) -> Checkpoint | None:
        """The newest complete checkpoint, or None."""
        return max(self.complete(), key=lambda checkpoint: checkpoint.step, default=None)

    def complete(self) -> Iterator[Checkpoint]:
        """All complete checkpoints, in no order."""
        return (checkpoint for checkpoint in self._all() if not checkpoint.incomplete())

    def damaged(self) -> Iterator[str]:
        """A line for each checkpoint, newer than the newest complete one, that was complete once and no longer is."""
        newest = self.latest()
        for checkpoint in sorted(self._all(), key=lambda checkpoint: checkpoint.step):
            if (checkpoint.folder / MARKER).exists() and (newest is None or checkpoint.step > newest.step):
                yield skipping(checkpoint, checkpoint.incomplete())

    def clear(self) -> None:
        """Delete what interrupted saves have left: drafts, and folders without a marker. Nobody may be writing."""
        for folder in [*self.root.glob(f".step-*{PARTIAL}"), *self.root.glob("step-*")]:
            if not (folder / MARKER).exists():
                shutil.rmtree(folder)

    def prune(self, keep: int, every: int = 1) -> None:
        """Delete complete checkpoints but the newest and the last ``keep`` of those at a multiple of ``every`` steps.

        So one that a signal asked for, in between, takes nobody's place.
        """
        newest_first = sorted(self.complete(), key=lambda checkpoint: -checkpoint.step)
        regular = [checkpoint for checkpoint in newest_first if checkpoint.step % every == 0]
        for old in newest_first[1:]:
            if old not in regular[:keep]:
                (old.folder / MARKER).unlink()  # first, so that an interrupted deletion leaves nothing that looks whole
                shutil.rmtree(old.folder, ignore_errors=True)

    def _all(self) -> Iterator[Checkpoint]:
        for folder in self.root.glob("step-*"):
            found = re.fullmatch(r"step-(\d+)", folder.name)
            if found:
                yield Checkpoint(folder, int(found.group(1)))


def skipping(checkpoint: Checkpoint, why: str) -> str:
    """The line that says that a checkpoint is not resumed from."""
    return f"skipping the damaged checkpoint {checkpoint.folder}: {why}"


Parts = Mapping[str, Mapping[str, tuple[Tensor, Chunk]]]
"""What one rank writes: under the name of each file, chunks of tensors."""


@dataclass(frozen=True)
class Draft:
    """A checkpoint that is being written. ``writers`` is how many ranks write parts; ``token`` tells attempts apart."""

    root: Path
    step: int
    token: str
    writers: int = 1

    @property
    def folder(self) -> Path:
        """Where it is written until it is complete."""
        return self.root / f".step-{self.step}.{self.token}{PARTIAL}"

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
        """Have this rank's files on the disk, and a list of them for the rank that publishes.

        Args:
            rank: this one.
            parts: its chunks.
            state: what is not a tensor; one rank writes it.
            describe: writes what a model's folder has beside its weights into a new folder.

        Raises:
            OSError, SafetensorError, FailedJob: the disk does not take them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        written = [self.folder / self._file_name(name, rank) for name in parts]
        for path, chunks in zip(written, parts.values(), strict=True):
            _write_chunks(path, chunks)
        if state is not None:
            write_json(self.folder / STATE, state)
            written.append(self.folder / STATE)
        if describe is not None:
            describe(self.folder / DESCRIPTION)
            written += sorted(path for path in (self.folder / DESCRIPTION).rglob("*") if path.is_file())
        files = {}
        for path in written:
            sync(path)
            files[path.relative_to(self.folder).as_posix()] = {"bytes": path.stat().st_size, "crc32": _crc32_of(path)}
        write_json(self._list_of(rank), files)

    def publish(self, ranks: Sequence[int]) -> None:
        """Give the folder its name and its marker, once all of ``ranks`` have written their files.

        Raises:
            OSError: the disk does not take it.
            FailedJob: what a rank has written is not in this folder.
        """
        files = {name: facts for rank in ranks for name, facts in self._written_by(rank).items()}
        for rank in ranks:
            self._list_of(rank).unlink()
        replace_path(self.target, self.folder)  # only a damaged one can be there, which was not resumed from
        write_json(self.target / MARKER, {"files": dict(sorted(files.items()))})

    def discard(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file_name(self, name: str, rank: int) -> str:
        if self.writers == 1:
            return f"{name}.safetensors"
        return f"{name}-{rank + 1:05}-of-{self.writers:05}.safetensors"

    def _list_of(self, rank: int) -> Path:
        return self.folder / f"written-by-{rank}.json"

    def _written_by(self, rank: int) -> dict[str, dict[str, int]]:
        try:
            files: dict[str, dict[str, int]] = read_json(self._list_of(rank))
        except FileNotFoundError as error:
            raise FailedJob(
                f"the files of process {rank} are not in {self.folder}: the run folder must be shared by all machines"
            ) from error
        return files


def _write_chunks(path: Path, chunks: Mapping[str, tuple[Tensor, Chunk]]) -> None:
    cut = {name: [chunk.full, chunk.offset] for name, (_, chunk) in chunks.items() if chunk.size != chunk.full}
    metadata = {"format": "pt", **({CHUNKS: json.dumps(cut)} if cut else {})}  # without chunks any tool reads the file
    write_tensors({name: tensor for name, (tensor, _) in chunks.items()}, path, metadata)


def _crc32_of(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            checksum = zlib.crc32(piece, checksum)
            advanced()
    return checksum
