"""Processes that train together: the group, what each holds of the model, and what they agree on."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import psutil
import torch
from torch import Tensor, distributed, nn
from torch.autograd import Variable
from torch.distributed import ProcessGroup, ReduceOp, Work
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.engine.distributed.heartbeat import MEETING, Heartbeat
from skillnet_cli.model.encoder import Encoder
from skillnet_cli.model.parts import members
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.pace import waiting

T = TypeVar("T")

UNBOUNDED = timedelta(days=14)
"""How long a collective may take, for torch: whether a rank that it waits for is lost, its heartbeat says."""
BYTES_A_PARAMETER = 16
"""In float32: the parameter, its gradient, and AdamW's two moments."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together. All ranks must call each method at the same time."""

    rank: int
    world: int
    device: torch.device
    reached: Callable[[int], None] = lambda step: None
    """Signs that this rank begins a step, counted from 1; see :class:`Heartbeat`."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The element-wise sum over all ranks."""
        if self.world > 1:
            with waiting():
                distributed.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """The values of all ranks in the order of ranks, for what is not a tensor. It pickles, which is slow."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        with waiting():
            distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Return when all ranks have come here."""
        if self.world > 1:
            with waiting():
                distributed.barrier()

    def check_same(self, facts: Mapping[str, Any], when: str = "at the start") -> None:
        """Compare ``facts`` with those of all other ranks.

        Raises:
            FailedJob: a rank's values differ from those of rank 0; all ranks raise it, with its number and both values.
        """
        main, *others = self.gather(dict(facts))
        differences = [
            f"{what}: rank {rank} has {other[what]}, rank 0 has {main[what]}"
            for rank, other in enumerate(others, 1)
            for what in main
            if other[what] != main[what]
        ]
        if differences:
            raise FailedJob(f"{when} the ranks do not agree: {'; '.join(differences)}")


@contextmanager
def process_group(timeout: float = 600.0) -> Iterator[Ranks]:
    """Join the group that the environment describes (torchrun's or srun's variables), or stand alone without one.

    Raises:
        UserError: the port where the ranks shall meet is in use.
        FailedJob: a rank has not come to the start, has died, or has done nothing for ``timeout`` seconds.
    """
    os.environ |= torchrun_variables(os.environ)
    device = _device(int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    _share_cores(int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Ranks(0, 1, device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = _meet(rank, world, max(timeout, MEETING))
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=UNBOUNDED)
    heartbeat = Heartbeat(rank, world, timeout)
    try:
        yield Ranks(rank, world, device, heartbeat.reached)
    except RuntimeError as error:
        lost = heartbeat.lost_rank() if _is_lost(error) else None
        if lost is None:
            raise
        raise FailedJob(f"lost {lost}; run it again to resume") from error
    finally:
        heartbeat.close()
        distributed.destroy_process_group()


def is_first_rank() -> bool:
    """Whether this process is the main rank, or stands alone, by the variables that :func:`process_group` goes by."""
    return int({**os.environ, **torchrun_variables(os.environ)}.get("RANK", 0)) == 0


def _meet(rank: int, world: int, timeout: float) -> distributed.Store:
    """The store through which all ranks find one another, once all of them are there."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    theirs = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun's launcher holds it
    try:
        store = distributed.TCPStore(
            host, port, world, is_master=rank == 0 and not theirs, timeout=timedelta(seconds=timeout),
            wait_for_workers=False, multi_tenant=True,
        )  # fmt: skip
    except distributed.DistError as error:
        if "EADDRINUSE" in str(error):
            raise UserError(f"port {port} of {host} is in use: choose another one with MASTER_PORT") from error
        who = "the launcher" if theirs else "rank 0"
        raise FailedJob(f"rank {rank} finds no {who} at {host}:{port} ({str(error).splitlines()[0]})") from error
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # a launcher's store has the keys of earlier ones
    keys = [f"skillnet/{attempt}/{each}" for each in range(world)]
    try:
        store.set(keys[rank], "here")
        store.wait(keys)
    except distributed.DistError as error:
        missing = [each for each, key in enumerate(keys) if not store.check([key])]
        named = ", ".join(map(str, missing)) or "none"
        raise FailedJob(f"of {world} ranks these have not come to {host}:{port} in {timeout:g} s: {named}") from error
    return store


def _device(local: int, processes: int) -> torch.device:
    """The GPU of a process, or the CPU. A launcher may show each process one GPU alone."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    there = torch.cuda.device_count()
    if 1 < there < processes:
        raise UserError(f"{processes} processes for {there} GPUs: start at most one for each")
    return torch.device("cuda", local % there)


def _is_lost(error: RuntimeError) -> bool:
    """Whether a collective failed because its partner is gone or silent."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error)


def _share_cores(processes: int) -> None:
    """Give each of the processes on this machine its part of the cores, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        # macOS does not say which cores a process may use
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // processes))


def distribute(model: SkillNet, ranks: Ranks, strategy: str) -> None:
    """Make every skill's modules, block, embedder, head and encoder a unit of communication of its own.

    A unit's gradients are reduced only if its task activated it and it is not frozen. ``"replicate"`` keeps all
    parameters on every rank (a mesh of N × 1), ``"fsdp"`` a shard of each (a mesh of N). With one rank nothing changes.

    Args:
        model: is changed in place.
        ranks: who trains.
        strategy: ``"replicate"`` or ``"fsdp"``.
    """
    if ranks.world == 1:
        return
    replicate = strategy == "replicate"
    shape, names = ((ranks.world, 1), ("copies", "parts")) if replicate else ((ranks.world,), ("parts",))
    mesh = init_device_mesh(ranks.device.type, shape, mesh_dim_names=names)
    group = None
    if replicate and ranks.device.type == "cpu":  # gloo has no stream in which the mesh would reduce
        group, mesh = mesh["copies"].get_group(), mesh["parts"]
    # Inner units before outer ones: fully_shard gives a unit only the parameters that no inner unit has taken.
    encoders = [module for module in model.modules() if isinstance(module, Encoder)]
    blocks = [block for encoder in encoders for block in encoder.blocks]
    for unit in [*members(model, "skills"), *blocks, *members(model, "heads"), *encoders]:
        fully_shard(unit, mesh=mesh)
    for embedder in members(model, "embedders"):
        fully_shard(embedder, mesh=mesh, reshard_after_forward=False)  # its table serves its head after its forward
    fully_shard(model, mesh=mesh)
    # Parameters are gathered when a unit is called; forward is known, other ways in must be registered.
    for entry in ("encode_batch", "contrastive_loss"):
        register_fsdp_forward_method(model, entry)
    if group is not None:
        _reduce_in_the_background(model, group)


def _reduce_in_the_background(model: nn.Module, group: ProcessGroup) -> None:
    """Have every unit of :func:`fully_shard`, of which each rank holds all, average its gradients over ``group``.

    A mesh of copies does so too, but on a CPU its backward pass waits for every unit's gradients, one after another.
    """
    underway: list[Work] = []
    claimed: set[nn.Parameter] = set()
    for unit in reversed([module for module in model.modules() if isinstance(module, FSDPModule)]):  # inner ones first
        own = [parameter for parameter in unit.parameters() if parameter not in claimed]
        claimed.update(own)
        unit.set_all_reduce_hook(_Reduction(own, group, underway))


class _Reduction:
    """Replaces the gradients of a unit by their average, by the end of the backward pass at the latest.

    Where some parameter of the unit has a gradient already, it does so at once: the new one is added to it next.

    Args:
        parameters: the unit's own.
        group: the ranks.
        underway: reductions of all units that have begun and not ended.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], group: ProcessGroup, underway: list[Work]) -> None:
        self._parameters = list(parameters)
        self._group = group
        self._underway = underway

    def __call__(self, gradients: Tensor) -> None:
        """Begin with the gradients of one unit."""
        if not self._underway:
            # At the end of the backward pass, as DistributedDataParallel and FSDP do; seen with torch 2.11.
            Variable._execution_engine.queue_callback(self._finish)
        work = distributed.all_reduce(gradients, ReduceOp.AVG, self._group, async_op=True)
        self._underway.append(work)
        if any(parameter.grad is not None for parameter in self._parameters):
            self._finish()

    def _finish(self) -> None:
        while self._underway:
            self._underway.pop(0).wait()


def fitting_strategy(wanted: str, parameters: int, memory: float) -> str:
    """``"auto"`` as ``"replicate"`` where that fits, else ``"fsdp"``; anything else as it is.

    It fits where 16 bytes a parameter (itself, its gradient, AdamW's two moments) are at most half of a rank's
    ``memory``, which leaves the other half to activations.
    """
    if wanted != "auto":
        return wanted
    return "fsdp" if BYTES_A_PARAMETER * parameters > memory / 2 else "replicate"


def memory_of(device: torch.device, processes: int | None = None) -> float:
    """Bytes of memory that a process has to itself on a device; a machine's is shared by its ``processes``."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(psutil.virtual_memory().total) / (processes or int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def sync_gradients(model: nn.Module, wanted: bool) -> None:
    """Whether the next backward pass reduces gradients over ranks: only an update's last one needs to."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(wanted)


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor with every rank's part in it. All ranks must call this together."""
    with waiting():
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


FIRST_PORT, PORTS = 20_000, 20_000
"""Where ranks meet: a port that the job's and the step's number choose, so that all ranks choose the same."""


def torchrun_variables(environment: Mapping[str, str]) -> dict[str, str]:
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
        "MASTER_ADDR": environment.get("MASTER_ADDR", _first_host(nodes)),
        "MASTER_PORT": environment.get("MASTER_PORT", _port(environment.get("SLURM_JOB_ID", "0"), step)),
    }


def _first_host(nodes: str) -> str:
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
