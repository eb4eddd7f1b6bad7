"""Saves the training's state while it goes on: copied at the step, written by a thread, published by agreement."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, distributed

from skillnet_cli.api import FailedJob
from skillnet_cli.engine.checkpoint.format import (
    MARKER,
    STATE,
    Checkpoint,
    Chunk,
    chunk_of,
    complete,
    crc32_of_file,
    is_saved_here,
    local_shard,
    write_chunks,
)
from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.files import replace_path, write_json
from skillnet_cli.recipe.schema import CheckpointSection

DESCRIPTION = "description"
"""The folder of what is the same in all checkpoints: the model's configuration and its readers' assets."""

Parts = Mapping[str, Mapping[str, tuple[Tensor, Chunk]]]
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
            write_chunks(path, tensors)
        if state is not None:
            write_json(self.folder / STATE, state)
            written.append(self.folder / STATE)
        if describe is not None:
            describe(self.folder / DESCRIPTION)
            written += sorted(path for path in (self.folder / DESCRIPTION).rglob("*") if path.is_file())
        files = {path.relative_to(self.folder).as_posix(): _sealed(path) for path in written}
        write_json(self._note(rank), files)

    def publish(self, ranks: Sequence[int]) -> None:
        """Give the folder its name and its marker, once all of ``ranks`` have written their files.

        Raises:
            OSError: the disk does not take it.
            FailedJob: what a rank has written is not in this folder.
        """
        files = {name: facts for rank in ranks for name, facts in self._noted(rank).items()}
        for rank in ranks:
            self._note(rank).unlink()
        replace_path(self.target, self.folder)  # one without a marker, if there is one at all
        write_json(self.target / MARKER, {"files": dict(sorted(files.items()))})

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


LONGEST = 2_000
"""Bytes of a message that one rank tells the others."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint is complete: ``held`` seconds the training waited for it, of ``seconds`` that it took in all."""

    step: int
    held: float
    seconds: float


@dataclass
class _Underway:
    draft: Draft
    written: Future[None]
    began: float
    held: float = 0.0


@dataclass
class CheckpointWriter:
    """Writes checkpoints into ``root`` beside the training, which waits only while its tensors are copied.

    Every rank calls every method at the same step. Threads only write; what the ranks have to agree on they agree on
    in these calls. A save is complete when a later :meth:`check` or :meth:`wait` says so; until then the one before it
    stays. Each save first waits for the one before. The copies take as much of the machine's memory as the state does.

    Args:
        divided: whether every rank holds a part, or all hold the same, which the first one then writes.
        describe: writes what a model's folder has beside its weights.
    """

    root: Path
    ranks: Ranks
    settings: CheckpointSection
    divided: bool
    describe: Callable[[Path], None] | None = None
    _underway: _Underway | None = field(default=None, init=False)
    _copies: dict[str, Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saver")
        if self.ranks.is_main:
            clear(self.root)
        drawn = random.SystemRandom().randrange(1 << 31) if self.ranks.is_main else 0
        self._token = f"{int(self.ranks.sum(torch.tensor([drawn], device=self.ranks.device))):08x}"

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Agrees on nothing, since other ranks may have failed: what is not complete by now never will be."""
        self._threads.shutdown()

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Saved | None:
        """Copy this rank's parts and begin to write them. Returns the save before, if that is complete now.

        Raises:
            FailedJob: the save before could not be written.
        """
        before = self.wait()
        began = time.perf_counter()
        draft = Draft(self.root, step, self._token, self.ranks.world if self.divided else 1)
        parts = self._copied(tensors)
        written = self._threads.submit(self._write, draft, parts, dict(state))
        self._underway = _Underway(draft, written, began, held=time.perf_counter() - began)
        return before

    def check(self) -> Saved | None:
        """Whether the save under way has just become complete. Raises FailedJob where it could not be written."""
        if self._underway is None:
            return None
        began = time.perf_counter()
        done = self.ranks.sum(torch.tensor([float(self._underway.written.done())], device=self.ranks.device))
        self._underway.held += time.perf_counter() - began
        return self.wait() if int(done) == self.ranks.world else None

    def wait(self) -> Saved | None:
        """Have the save under way, if there is one, complete. Raises FailedJob where it could not be written."""
        if self._underway is None:
            return None
        began, underway, self._underway = time.perf_counter(), self._underway, None
        self._agree(self._failure(underway.draft, underway.written.result), underway.draft)
        publish = underway.draft.publish if self.ranks.is_main else (lambda writers: None)
        self._agree(self._failure(underway.draft, lambda: publish(range(underway.draft.writers))), underway.draft)
        if self.ranks.is_main:
            self._threads.submit(prune, self.root, self.settings.keep, self.settings.every)
        now = time.perf_counter()
        return Saved(underway.draft.step, underway.held + now - began, now - underway.began)

    def _copied(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> Parts:
        """The parts that this rank saves, in the machine's memory; the same memory at every save."""
        rank = self.ranks.rank
        parts = {
            kind: {
                name: (self._copy(f"{kind}/{name}", local_shard(tensor)), chunk_of(tensor))
                for name, tensor in some.items()
                if is_saved_here(tensor, rank)
            }
            for kind, some in tensors.items()
        }
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize(self.ranks.device)
        return parts

    def _copy(self, name: str, tensor: Tensor) -> Tensor:
        if name not in self._copies:
            self._copies[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        return self._copies[name].copy_(tensor, non_blocking=True)

    def _write(self, draft: Draft, parts: Parts, state: Mapping[str, Any]) -> None:
        if self.ranks.is_main:
            draft.write(self.ranks.rank, parts, state, self.describe)
        elif self.divided:
            draft.write(self.ranks.rank, parts)

    def _failure(self, draft: Draft, work: Callable[[], None]) -> str | None:
        """Why some work on a checkpoint could not be done, None if it was."""
        try:
            work()
        except (OSError, SafetensorError, FailedJob) as error:
            return f"cannot save the checkpoint {draft.target}: {error}; earlier checkpoints are intact"
        return None

    def _agree(self, failure: str | None, draft: Draft) -> None:
        """Raises FailedJob on all ranks where one has failed."""
        told = broadcast_message(failure, self.ranks)
        if told is not None:
            if self.ranks.is_main:
                draft.discard()
            raise FailedJob(told)


def broadcast_message(text: str | None, ranks: Ranks) -> str | None:
    """What the first rank that has something to say says, None where none has. All ranks must call this together."""
    if ranks.world == 1:
        return text
    speakers = torch.zeros(ranks.world, device=ranks.device)
    speakers[ranks.rank] = float(text is not None)
    speakers = ranks.sum(speakers)
    if not speakers.any():
        return None
    first = int(speakers.argmax())
    message = torch.zeros(LONGEST, dtype=torch.uint8, device=ranks.device)
    if ranks.rank == first:
        encoded = f"process {first}: {text}".encode()[:LONGEST]
        message[: len(encoded)] = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    distributed.broadcast(message, src=first)
    return bytes(message.tolist()).rstrip(b"\0").decode(errors="replace")
