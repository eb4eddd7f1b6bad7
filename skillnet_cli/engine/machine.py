"""What a training needs of its machine: the run's folder to itself, memory, a disk with room."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch

from skillnet_cli.api import FailedJob
from skillnet_cli.engine.checkpoint.format import Checkpoints
from skillnet_cli.engine.estimate.cost import FLOAT, checkpoint_bytes, kept_beside
from skillnet_cli.files import PARTIAL, make_folder, only_one
from skillnet_cli.recipe.schema import Stage
from skillnet_cli.runs import StageFolder

_NO_MEMORY = ("DefaultCPUAllocator", "not enough memory", "out of memory", "Cannot allocate memory", "start new thread")
"""What the messages of torch and Python say where memory, or a thread's share of it, has run out (torch 2.11)."""


def only_trainer(run: Path) -> AbstractContextManager[None]:
    """While entered, no other process trains in the folder ``run``; it is let go when this process ends, however.

    Raises:
        UserError: another process does already.
    """
    make_folder(run.parent, "choose another one with --runs")
    busy = f"{run} is being trained by another process: wait for it, or choose another run with --set name=…"
    return only_one(run.parent / f".{run.name}.lock", busy)


def clear_partials(run: Path) -> None:
    """Delete what was being written in a run when it was ended. Nobody may be writing."""
    for path in list(run.rglob(f"*{PARTIAL}")) + list(run.rglob(".fresh")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def machine_errors(run: Path) -> Iterator[None]:
    """Raises FailedJob, which is a line, where the memory does not suffice or the disk fails."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        line = (str(error).splitlines() or [""])[0]
        out = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not out and not any(words in str(error) for words in _NO_MEMORY):
            raise
        raise FailedJob(
            f"the memory does not suffice{f' ({line})' if line else ''}: set a smaller micro_batch or fewer "
            "train.workers, and run it again to resume"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise FailedJob(f"the memory does not suffice ({error.strerror}): set fewer train.workers") from error
        raise FailedJob(f"{error.filename or run}: {error.strerror or error}: run it again to resume") from error


def disk_needed(folder: StageFolder, stage: Stage, total: int, trained: int) -> float:
    """Bytes that a stage is going to write, beyond what lies in its folder: checkpoints and models.

    Args:
        folder: of the stage.
        stage: as the recipe has it.
        total: parameters of the model.
        trained: those of them that train, and have moments.
    """
    settings = stage.checkpoints
    saves = min(settings.keep + 1, -(-stage.steps // settings.every))
    kept = sum(1 for _ in Checkpoints(folder.checkpoints).complete())
    best = {"tasks": len(stage.tasks), "mean": 1}
    models = (not folder.model.exists()) + sum(best[kind] for kind in settings.best if not folder.best.exists())
    return max(0, saves - kept) * checkpoint_bytes(total, trained, kept_beside(stage)) + models * FLOAT * total


def disk_problem(folder: StageFolder, stage: Stage, total: int, trained: int) -> str | None:
    """Why a stage will not find the room that :func:`disk_needed` says, in a line; None where it will."""
    needed = int(disk_needed(folder, stage, total, trained))
    free = _free_bytes(folder.path)
    if free is None or needed <= free:
        return None
    return (
        f"{folder.path} needs {_size(needed)} for checkpoints ({stage.checkpoints.keep} kept, and one being "
        f"written) and models, and its disk has {_size(free)} left: make room, lower checkpoints.keep, or choose "
        "another folder with --runs"
    )


def _free_bytes(folder: Path) -> int | None:
    """What the disk of a folder, which may not exist yet, has left; None where that is not known."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
