"""Slurm's srun as a launcher: its variables in torchrun's words."""

from __future__ import annotations

import re
from collections.abc import Mapping

FIRST_PORT, PORTS = 20_000, 20_000
"""Where ranks meet: a port that the job's and the step's number choose, so that all ranks choose the same."""


def torchrun_words(environment: Mapping[str, str]) -> dict[str, str]:
    """RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT of a task that srun started.

    Nothing where torchrun has set its own, and nothing where no srun has started this process: a batch script has
    most of Slurm's variables too, but no step of several tasks.
    """
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or 1)
    in_step = "SLURM_STEP_ID" in environment or "SLURM_STEPID" in environment
    if "RANK" in environment or not in_step or "SLURM_PROCID" not in environment or tasks == 1:
        return {}
    nodes = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_NODELIST"]
    step = environment.get("SLURM_STEP_ID") or environment["SLURM_STEPID"]
    return {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_WORLD_SIZE": str(_tasks_here(environment)),
        "MASTER_ADDR": environment.get("MASTER_ADDR", first_host(nodes)),
        "MASTER_PORT": environment.get("MASTER_PORT", _port(environment.get("SLURM_JOB_ID", "0"), step)),
    }


def first_host(nodes: str) -> str:
    """The first host of a list such as ``node[01-04,07],gpu3``."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes.strip())
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first.group() if first else nodes)


def _tasks_here(environment: Mapping[str, str]) -> int:
    """How many of the tasks run on this node: its place in a list such as ``8(x3),4``."""
    counts: list[int] = []
    for part in (environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE", "1")).split(
        ","
    ):
        count, _, times = part.partition("(x")
        counts += [int(count)] * int(times.rstrip(")") or 1)
    return counts[min(int(environment.get("SLURM_NODEID", 0)), len(counts) - 1)]


def _port(job: str, step: str) -> str:
    return str(FIRST_PORT + (int(job) * 31 + int(step)) % PORTS)
