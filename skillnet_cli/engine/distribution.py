"""One process or many: the process group, what each rank holds of the model, and how to see a parameter whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from skillnet_cli.model.encoder import Encoder
from skillnet_cli.model.parts import members
from skillnet_cli.model.skillnet import SkillNet

TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    world: int
    device: torch.device

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
def process_group() -> Iterator[Ranks]:
    """Join the group that the environment describes (torchrun's variables), or stand alone without one."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    share_cores(int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Ranks(0, 1, device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()


def share_cores(processes: int) -> None:
    """Give each of the processes on this machine its part of the cores, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))


def distribute(model: SkillNet, ranks: Ranks, strategy: str) -> None:
    """Make every skill's modules, block, embedder, head and encoder a unit of communication of its own.

    A unit's gradients are reduced only if its task activated it and it is not frozen. ``"replicate"`` keeps all
    parameters on every rank (a mesh of N × 1), ``"fsdp"`` a part of each (a mesh of N). Alone, nothing is changed.
    """
    if ranks.world == 1:
        return
    replicate = strategy == "replicate"
    shape, names = ((ranks.world, 1), ("copies", "parts")) if replicate else ((ranks.world,), ("parts",))
    mesh = init_device_mesh(ranks.device.type, shape, mesh_dim_names=names)
    encoders = [module for module in model.modules() if isinstance(module, Encoder)]
    blocks = [block for encoder in encoders for block in encoder.blocks]
    for unit in [*members(model, "skills"), *blocks, *members(model, "heads"), *encoders]:
        fully_shard(unit, mesh=mesh)
    for embedder in members(model, "embedders"):
        fully_shard(embedder, mesh=mesh, reshard_after_forward=False)  # its table serves its head after its forward
    fully_shard(model, mesh=mesh)
    for entry in ("outline", "compare"):  # as forward is one by itself
        register_fsdp_forward_method(model, entry)


def sync_gradients(model: nn.Module, wanted: bool) -> None:
    """Whether the next backward pass reduces gradients over ranks: only an update's last one needs to."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(wanted)


def whole(tensor: Tensor) -> Tensor:
    """A tensor with every rank's part in it. All ranks must call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
