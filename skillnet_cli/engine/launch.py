"""Starts a stage in this process, or in several under torch's elastic launch."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.engine.checks import check_plan
from skillnet_cli.engine.plan import plan_stage
from skillnet_cli.engine.stopping import STOP, RelayedSignals, Stopped
from skillnet_cli.engine.train import run_stage
from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe import Recipe


@dataclass(frozen=True)
class Processes:
    """How many processes train together, and how they find one another (the words of torchrun)."""

    nproc: int = 1
    nnodes: int = 1
    rdzv_endpoint: str | None = None
    max_restarts: int = 0


def launch(recipe: Recipe, stage: str, run: Path, roots: Sequence[Path], processes: Processes = Processes()) -> None:
    """Train a stage to its end, in this process if one is all that is asked for.

    Under torchrun, whose variables are in the environment, this process is one of its ranks.

    Raises:
        UserError, FailedJob: as :func:`skillnet_cli.engine.train.run_stage`, whichever process met it first.
        Stopped: a signal stopped the training, which can go on from there; the exit code is 128 + its number.
    """
    if stage not in recipe.stages():
        raise UserError(f"the recipe '{recipe.name}' has no [{stage}]; it has {' and '.join(recipe.stages())}")
    if processes.nproc * processes.nnodes == 1:
        run_stage(recipe, stage, run, roots)
    else:
        _launch_elastic(recipe, stage, run, roots, processes)


def _launch_elastic(recipe: Recipe, stage: str, run: Path, roots: Sequence[Path], processes: Processes) -> None:
    check_plan(plan_stage(recipe, stage, load_registry(), roots), processes.nproc * processes.nnodes)
    _quieten()
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
        signals_to_handle="SIGHUP,SIGQUIT",  # at the others the launcher would kill what has not ended after 30 seconds
    )
    arguments = (recipe.model_dump(mode="json", exclude_none=True), stage, str(run), [str(root) for root in roots])
    with RelayedSignals() as signals:
        try:
            ended = elastic_launch(config, worker)(*arguments)
        except SignalException as error:
            raise Stopped(error.sigval.value, f"stopped by {error.sigval.name}: run it again to go on") from error
        except ChildFailedError as error:
            raise _first_failure(error, signals.received) from error
    stopped = max(ended.values())
    if stopped:
        raise Stopped(stopped, f"stopped by {signal.Signals(stopped).name}: run it again to go on")


def _quieten() -> None:
    """Keep the launcher's own tracebacks off the screen: the first failure is reported in one place, by us."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)


@record
def worker(recipe: dict[str, Any], stage: str, run: str, roots: Sequence[str]) -> int:
    """One process of an elastic launch. Signals come to it from the launcher alone, so that one stays one.

    Returns the number of the signal that stopped the training, 0 where it came to its end. To the launcher both are
    ends: it neither starts a stopped training again nor hurries the processes that still save.
    """
    os.setpgrp()
    if STOP in os.environ:
        return int(os.environ[STOP])
    try:
        run_stage(Recipe.model_validate(recipe), stage, Path(run), [Path(root) for root in roots])
    except Stopped as stopped:
        return stopped.number
    return 0


def _first_failure(error: ChildFailedError, received: int) -> Exception:
    """What the process that failed first raised, as a user should see it; a bug keeps its traceback.

    ``received`` is the signal that asked the launcher to stop: a process that it killed had not yet begun to train.
    """
    rank, failure = error.get_first_failure()
    if received and failure.exitcode in (-received, 128 + received):
        return Stopped(received, f"stopped by {signal.Signals(received).name}: run it again to go on")
    if failure.exitcode < 0:
        return FailedJob(
            f"process {rank} was killed by {signal.Signals(-failure.exitcode).name}; run it again to go on"
        )
    recorded = failure.error_file_data["message"]
    kind, _, text = (recorded["message"] if isinstance(recorded, dict) else recorded).partition(": ")
    known: dict[str, type[Exception]] = {"UserError": UserError, "FailedJob": FailedJob}
    return known[kind](text) if kind in known else error
