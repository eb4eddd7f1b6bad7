"""Saves the state of a training while it runs: copied at the step, written by a thread, published by agreement."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.tensor import DTensor

from skillnet_cli.api import FailedJob
from skillnet_cli.engine.checkpoint.format import Checkpoints, Chunk, Draft, Parts, local_shard
from skillnet_cli.engine.distributed.mesh import Ranks
from skillnet_cli.recipe.schema import CheckpointSection


@dataclass(frozen=True)
class Saved:
    """A checkpoint is complete: the training waited ``held`` seconds for it, of ``seconds`` that it took in all."""

    step: int
    held: float
    seconds: float


@dataclass
class _Pending:
    draft: Draft
    written: Future[None]
    began: float
    held: float = 0.0


@dataclass
class CheckpointWriter:
    """Writes checkpoints into ``root`` beside the training, which waits only while its tensors are copied.

    Every rank calls every method at the same step. Threads only write and never communicate: a collective from a
    second thread would meet those of the training in another order on each rank. What the ranks have to agree on they
    agree on in these calls. A save is complete when a later :meth:`check` or :meth:`wait` says so; until then the one
    before it stays. Each save first waits for the one before. The copies take as much of the machine's memory as the
    state does.

    Args:
        root: the folder of all checkpoints.
        ranks: those that train.
        settings: how many checkpoints to keep.
        sharded: whether every rank holds a part; if not, all hold the same, and the first one writes it.
        describe: writes what a model's folder has beside its weights.
    """

    root: Path
    ranks: Ranks
    settings: CheckpointSection
    sharded: bool
    describe: Callable[[Path], None] | None = None
    _pending: _Pending | None = field(default=None, init=False)
    _copies: dict[str, Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._checkpoints = Checkpoints(self.root)
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        if self.ranks.is_main:
            self._checkpoints.clear()
        # Not the seeded generator: a restarted process must not write into the draft of one that is still dying.
        self._token: str = self.ranks.gather(f"{random.SystemRandom().randrange(1 << 31):08x}")[0]

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Agrees on nothing, since other ranks may have failed: what is not complete by now never will be."""
        self._threads.shutdown()

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Saved | None:
        """Copy this rank's parts and begin to write them. Returns the save before, if that is complete now.

        Args:
            step: the last one that the state has seen.
            tensors: as this rank holds them, by what they are saved under.
            state: what is not a tensor.

        Raises:
            FailedJob: the save before could not be written.
        """
        before = self.wait()
        began = time.perf_counter()
        draft = Draft(self.root, step, self._token, self.ranks.world if self.sharded else 1)
        parts = self._copied(tensors)
        written = self._threads.submit(self._write, draft, parts, dict(state))
        self._pending = _Pending(draft, written, began, held=time.perf_counter() - began)
        return before

    def check(self) -> Saved | None:
        """The pending save if it has just become complete. Raises FailedJob where it could not be written."""
        if self._pending is None:
            return None
        began = time.perf_counter()
        done = self.ranks.sum(torch.tensor([float(self._pending.written.done())], device=self.ranks.device))
        self._pending.held += time.perf_counter() - began
        return self.wait() if int(done) == self.ranks.world else None

    def wait(self) -> Saved | None:
        """Have the pending save complete, if there is one. Raises FailedJob where it could not be written."""
        if self._pending is None:
            return None
        began, pending, self._pending = time.perf_counter(), self._pending, None
        draft = pending.draft
        self._together(draft, pending.written.result)
        self._together(draft, lambda: draft.publish(range(draft.writers)) if self.ranks.is_main else None)
        if self.ranks.is_main:
            self._threads.submit(self._checkpoints.prune, self.settings.keep, self.settings.every)
        now = time.perf_counter()
        return Saved(draft.step, pending.held + now - began, now - pending.began)

    def _copied(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> Parts:
        """The parts that this rank saves, in the machine's memory; the same memory at every save."""
        parts = {
            kind: {
                name: (self._copy(f"{kind}/{name}", local_shard(tensor)), Chunk.of(tensor))
                for name, tensor in some.items()
                if _is_saved_by(self.ranks.rank, tensor)
            }
            for kind, some in tensors.items()
        }
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize(self.ranks.device)  # the copies are asynchronous, and the next update overwrites
        return parts

    def _copy(self, name: str, tensor: Tensor) -> Tensor:
        if name not in self._copies:
            self._copies[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        return self._copies[name].copy_(tensor, non_blocking=True)

    def _write(self, draft: Draft, parts: Parts, state: Mapping[str, Any]) -> None:
        if self.ranks.is_main:
            draft.write(self.ranks.rank, parts, state, self.describe)
        elif self.sharded:
            draft.write(self.ranks.rank, parts)

    def _together(self, draft: Draft, work: Callable[[], None]) -> None:
        """Do a part of the work on a draft. Raises FailedJob, the same on all ranks, where one of them fails."""
        failure = None
        try:
            work()
        except (OSError, SafetensorError, FailedJob) as error:
            process = f"process {self.ranks.rank}: " if self.ranks.world > 1 else ""
            failure = f"{process}cannot save the checkpoint {draft.target}: {error}; earlier checkpoints are intact"
        failure = next((each for each in self.ranks.gather(failure) if each is not None), None)
        if failure is not None:
            if self.ranks.is_main:
                draft.discard()
            raise FailedJob(failure)


def _is_saved_by(rank: int, tensor: Tensor) -> bool:
    """Whether a rank saves what it holds of a tensor: of ranks that hold the same, the first one does."""
    if not isinstance(tensor, DTensor):
        return rank == 0
    place = tensor.device_mesh.get_coordinate() or ()
    copies = (number for number, kind in zip(place, tensor.placements, strict=True) if kind.is_replicate())
    return local_shard(tensor).numel() > 0 and not any(copies)
