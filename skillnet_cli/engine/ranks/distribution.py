"""One process or many: the process group, what each rank holds of the model, and how to see a parameter whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.engine.ranks.reduction import reduce_in_the_background
from skillnet_cli.engine.ranks.slurm import torchrun_words
from skillnet_cli.engine.ranks.watch import Watch
from skillnet_cli.model.encoder import Encoder
from skillnet_cli.model.parts import members
from skillnet_cli.model.skillnet import SkillNet

TIMEOUT = timedelta(minutes=30)
BYTES_A_PARAMETER = 16
"""In float32: the parameter, its gradient, and AdamW's two moments."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    world: int
    device: torch.device
    reached: Callable[[int], None] = lambda step: None
    """Tells the other ranks that this one begins a step, counted from 1."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The element-wise sum over all ranks."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        """Go on when all ranks have come here."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def process_group(patience: float = TIMEOUT.total_seconds()) -> Iterator[Ranks]:
    """Join the group that the environment describes (torchrun's or srun's variables), or stand alone without one.

    Raises:
        FailedJob: another rank has died, or has not come to a step for ``patience`` seconds.
    """
    os.environ |= torchrun_words(os.environ)
    device = _device(int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    share_cores(int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Ranks(0, 1, device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    rank, world = distributed.get_rank(), distributed.get_world_size()
    watch = Watch(rank, world, patience)
    try:
        yield Ranks(rank, world, device, watch.reached)
    except RuntimeError as error:
        missing = watch.missing() if _is_lost(error) else None
        if missing is None:
            raise
        raise FailedJob(f"lost {missing}; run it again to go on") from error
    finally:
        watch.close()
        distributed.destroy_process_group()


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


def share_cores(processes: int) -> None:
    """Give each of the processes on this machine its part of the cores, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))


def distribute(model: SkillNet, ranks: Ranks, strategy: str) -> None:
    """Make every skill's modules, block, embedder, head and encoder a unit of communication of its own.

    A unit's gradients are reduced only if its task activated it and it is not frozen. ``"replicate"`` keeps all
    parameters on every rank (a mesh of N × 1; on CPUs see :mod:`.reduction`), ``"fsdp"`` a part of each (a mesh of N).
    Alone, nothing is changed.
    """
    if ranks.world == 1:
        return
    replicate = strategy == "replicate"
    shape, names = ((ranks.world, 1), ("copies", "parts")) if replicate else ((ranks.world,), ("parts",))
    mesh = init_device_mesh(ranks.device.type, shape, mesh_dim_names=names)
    group = None
    if replicate and ranks.device.type == "cpu":  # gloo has no stream in which the mesh would reduce
        group, mesh = mesh["copies"].get_group(), mesh["parts"]
    encoders = [module for module in model.modules() if isinstance(module, Encoder)]
    blocks = [block for encoder in encoders for block in encoder.blocks]
    for unit in [*members(model, "skills"), *blocks, *members(model, "heads"), *encoders]:
        fully_shard(unit, mesh=mesh)
    for embedder in members(model, "embedders"):
        fully_shard(embedder, mesh=mesh, reshard_after_forward=False)  # its table serves its head after its forward
    fully_shard(model, mesh=mesh)
    for entry in ("outline", "compare"):  # as forward is one by itself
        register_fsdp_forward_method(model, entry)
    if group is not None:
        reduce_in_the_background(model, group)


def fitting_strategy(wanted: str, parameters: int, memory: float) -> str:
    """``"auto"`` as ``"replicate"`` where that fits, else ``"fsdp"``; anything else as it is.

    It fits where 16 bytes a parameter (itself, its gradient, AdamW's two moments) are at most half of a rank's
    ``memory``, which leaves the other half to activations.
    """
    if wanted != "auto":
        return wanted
    return "fsdp" if BYTES_A_PARAMETER * parameters > memory / 2 else "replicate"


def settle_strategy(wanted: str, parameters: int, ranks: Ranks) -> str:
    """The strategy that fits on every rank, whose processes share a machine's memory. Together on all ranks."""
    own = fitting_strategy(wanted, parameters, memory_of(ranks.device))
    if wanted != "auto":
        return own
    divided = ranks.sum(torch.tensor(float(own == "fsdp"), device=ranks.device))
    return "fsdp" if float(divided) else "replicate"


def memory_of(device: torch.device) -> float:
    """Bytes of memory that a process has to itself on a device."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return machine / int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def sync_gradients(model: nn.Module, wanted: bool) -> None:
    """Whether the next backward pass reduces gradients over ranks: only an update's last one needs to."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(wanted)


def whole(tensor: Tensor) -> Tensor:
    """A tensor with every rank's part in it. All ranks must call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
