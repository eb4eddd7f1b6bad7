"""Starts a stage in this process, or in several under torch's elastic launch."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, get_error_handler, record
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.engine.checkpoint.format import Checkpoints
from skillnet_cli.engine.consistency import checked_plan
from skillnet_cli.engine.distributed.heartbeat import record_line
from skillnet_cli.engine.machine import clear_partials, only_trainer
from skillnet_cli.engine.signals import STOP, RelayedSignals, Stopped, leave_terminal
from skillnet_cli.engine.trainer import run_stage
from skillnet_cli.plugins import Registry, load_registry
from skillnet_cli.recipe import Recipe
from skillnet_cli.runs import RunFolder
from skillnet_cli.terminal import print_error

_ENDING = ("SIGHUP", "SIGQUIT")
"""Signals that torch's launcher handles: at the others it would kill what has not ended after 30 seconds."""


def _run_recorded(*arguments: Any) -> None:
    """:func:`run_stage`, whose errors a launcher is told: a traceback of bugs alone, a line of all else."""
    handler = get_error_handler()
    handler.initialize()
    try:
        run_stage(*arguments)
    except (UserError, FailedJob) as error:
        record_line(error)
        raise
    except Stopped:
        raise
    except Exception as error:
        handler.record_exception(error)
        raise


@dataclass(frozen=True)
class Processes:
    """How many processes train together, and how they find one another (the words of torchrun)."""

    nproc: int = 1
    nnodes: int = 1
    rdzv_endpoint: str | None = None
    max_restarts: int = 0


class _RankFailed(Exception):
    """A bug in one of several processes; the message has its traceback."""


def launch(
    recipe: Recipe,
    stage: str,
    registry: Registry,
    run: Path,
    roots: Sequence[Path],
    processes: Processes = Processes(),
    allow_data_change: bool = False,
) -> None:
    """Train a stage to its end, in this process if one is all that is asked for.

    Under torchrun or srun, whose variables are in the environment, this process is one of their ranks.

    Args:
        recipe: as loaded.
        stage: ``"pretrain"`` or ``"finetune"``.
        registry: the installed plugins; other processes load them for themselves.
        run: the run's folder, which may not exist yet.
        roots: folders of prepared sets.
        processes: how many are started here.
        allow_data_change: resume although the data has changed, with what there is.

    Raises:
        UserError: as :func:`skillnet_cli.engine.trainer.run_stage`, or the recipe has no such stage.
        FailedJob: as the same, whichever process met it first.
        Stopped: a signal stopped the training, which can be resumed from there; the exit code is 128 + its number.
    """
    if stage not in recipe.stages():
        raise UserError(f"the recipe '{recipe.name}' has no [{stage}]; it has {' and '.join(recipe.stages())}")
    if processes.nproc * processes.nnodes == 1:
        _run_recorded(recipe, stage, registry, run, roots, allow_data_change)
    else:
        # What can be found out before any process starts is found by this one: one message, and at once.
        there = torch.cuda.device_count()
        if 0 < there < processes.nproc:
            raise UserError(
                f"--nproc {processes.nproc}, and this machine has {there} GPU{'s' * (there > 1)}: at most one process "
                "for each, or set CUDA_VISIBLE_DEVICES= to train on its CPU"
            )
        checkpoint = Checkpoints(RunFolder(run).stage(stage).checkpoints).latest()
        world = processes.nproc * processes.nnodes
        with suppress(FailedJob):  # the newest checkpoint is damaged: the processes go on from the one before
            checked_plan(recipe, stage, registry, roots, world, checkpoint, allow_data_change)
        with only_trainer(run):
            pass  # the first rank holds it; where another does already, this says so before any process starts
        _launch_elastic(recipe, stage, run, roots, processes, allow_data_change)


def _check_endpoint(processes: Processes) -> None:
    """Say where machines meet, and refuse an endpoint of this machine alone that another program has taken."""
    endpoint = processes.rdzv_endpoint
    if endpoint is None:
        return
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) < 1 << 16:
        raise UserError(f"--rdzv-endpoint {endpoint}: give HOST:PORT, such as host0:29500")
    if processes.nnodes > 1:
        print_error(f"meeting {processes.nnodes} machines at {endpoint}")
        return
    try:
        with socket.create_server((host.strip("[]"), int(port))):
            pass
    except OSError as error:
        raise UserError(f"--rdzv-endpoint {endpoint}: {error.strerror or error}: choose another port") from error


def _launch_elastic(
    recipe: Recipe, stage: str, run: Path, roots: Sequence[Path], processes: Processes, allow_data_change: bool
) -> None:
    _quieten()
    _check_endpoint(processes)
    # A store shared by all attempts would hand a restarted process the addresses of its dead predecessors.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    config = LaunchConfig(
        min_nodes=processes.nnodes,
        max_nodes=processes.nnodes,
        nproc_per_node=processes.nproc,
        run_id=f"skillnet-{recipe.name}",
        rdzv_backend="c10d",
        rdzv_endpoint=processes.rdzv_endpoint or "localhost:0",
        max_restarts=processes.max_restarts,
        monitor_interval=0.2,
        signals_to_handle=",".join(name for name in _ENDING if hasattr(signal, name)),
    )
    document = recipe.model_dump(mode="json", exclude_none=True)
    arguments = (document, stage, str(run), [str(root) for root in roots], allow_data_change)
    with RelayedSignals(partial(clear_partials, run)) as signals:
        try:
            ended = elastic_launch(config, _worker)(*arguments)
        except SignalException as error:
            raise Stopped(error.sigval.value, f"stopped by {error.sigval.name}: run it again to resume") from error
        except ChildFailedError as error:
            raise _first_failure(error, signals.received) from None
        except RendezvousError as error:
            where = f" at {processes.rdzv_endpoint}" if processes.rdzv_endpoint else ""
            line = str(error).splitlines()[0]
            raise FailedJob(
                f"the processes do not find one another{where} ({line}): is the port free, and does every machine "
                "use the same --rdzv-endpoint and --nnodes?"
            ) from error
    stopped = max(ended.values())
    if stopped:
        raise Stopped(stopped, f"stopped by {signal.Signals(stopped).name}: run it again to resume")


def _quieten() -> None:
    """Keep the launcher's own tracebacks off the screen: the first failure is reported once, by :func:`launch`."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)


@record
def _worker(recipe: dict[str, Any], stage: str, run: str, roots: Sequence[str], allow_data_change: bool) -> int:
    """One process of an elastic launch. Signals come to it from the launcher alone, so that one stays one.

    Returns the number of the signal that stopped the training, 0 where it came to its end. To the launcher both are
    ends: it neither starts a stopped training again nor hurries the processes that still save.
    """
    leave_terminal()
    if STOP in os.environ:
        return int(os.environ[STOP])
    try:
        loaded, folders = Recipe.model_validate(recipe), [Path(root) for root in roots]
        run_stage(loaded, stage, load_registry(), Path(run), folders, allow_data_change)
    except Stopped as stopped:
        return stopped.number
    return 0


def _first_failure(error: ChildFailedError, received: int) -> Exception:
    """What the process that failed first raised, as a user should see it: a bug with its traceback, all else in a line.

    ``received`` is the signal that asked the launcher to stop: a process that it killed had not yet begun to train.
    """
    rank, failure = error.get_first_failure()
    if received and failure.exitcode in (-received, 128 + received):
        return Stopped(received, f"stopped by {signal.Signals(received).name}: run it again to resume")
    if failure.exitcode < 0:
        return FailedJob(
            f"rank {rank} (host {socket.gethostname()}, pid {failure.pid}) was killed by "
            f"{signal.Signals(-failure.exitcode).name}; run it again to resume"
        )
    recorded = failure.error_file_data["message"]
    if not isinstance(recorded, dict):
        return FailedJob(f"rank {rank} (pid {failure.pid}) ended with exit code {failure.exitcode}: {recorded}")
    kind, _, text = recorded["message"].partition(": ")
    known: dict[str, type[Exception]] = {"UserError": UserError, "FailedJob": FailedJob}
    trace = recorded["extraInfo"]["py_callstack"]
    return known[kind](text) if kind in known else _RankFailed(f"rank {rank} (pid {failure.pid}):\n{trace}")
