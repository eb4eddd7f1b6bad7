"""The training's state as named tensors, whatever the layout in memory, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.engine.checkpoint.format import ShardedTensors, chunk_of, local_shard, with_layout_of
from skillnet_cli.engine.distributed.mesh import full_tensor


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, as this rank holds it."""
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def full_tensors(model: nn.Module, wanted: bool) -> dict[str, Tensor]:
    """Every parameter and buffer in one piece where they are ``wanted``, nothing elsewhere. Together on all ranks."""
    tensors = {}
    for name, tensor in model_tensors(model).items():
        full = full_tensor(tensor)
        if wanted:
            tensors[name] = full
    return tensors


def load_model_tensors(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> list[str]:
    """Put whole tensors into a model that is in one piece, and return its tensors that ``source`` does not have.

    Raises:
        UserError: a tensor has another shape in ``source``, or is not finite.
    """
    own = model.state_dict()
    for name, tensor in own.items():
        if name in tensors and tensors[name].shape != tensor.shape:
            saved, wanted = tuple(tensors[name].shape), tuple(tensor.shape)
            raise UserError(f"{source}: tensor '{name}' has shape {saved}, the recipe asks for {wanted}")
        if name in tensors and not _is_finite(tensors[name]):
            raise UserError(f"{source}: tensor '{name}' has numbers that are not finite: nothing can start from it")
    with torch.no_grad():
        for name in own.keys() & tensors.keys():
            own[name].copy_(tensors[name])
    return [name for name in own if name not in tensors]


def restore_tensors(tensors: Mapping[str, Tensor], saved: ShardedTensors, source: str) -> None:
    """Put what was saved into the parts that this rank holds.

    Raises:
        FailedJob: a tensor is missing, of another shape, damaged or not finite.
    """
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name not in saved or saved.shape(name) != tuple(tensor.shape):
                raise FailedJob(f"{source}: tensor '{name}' is missing or of another shape: delete {source}")
            local_shard(tensor).copy_(_finite(name, saved.read(name, chunk_of(tensor)), source))


def optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """``PARAMETER/exp_avg`` and the like for the parameters updated so far, as this rank holds them."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(model: nn.Module, optimizer: Optimizer, saved: ShardedTensors, source: str) -> None:
    """Undo :func:`optimizer_tensors`, in whatever layout the parameters are. Raises as :func:`restore_tensors`."""
    parameters = dict(model.named_parameters())
    for path in saved.names:
        name, _, key = path.rpartition("/")
        like = parameters[name]
        if saved.shape(path) == tuple(like.shape):
            value = with_layout_of(_finite(path, saved.read(path, chunk_of(like)), source), like.detach())
        else:
            value = saved.read(path).to(like.device)
        optimizer.state[like][key] = value


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers of a tensor are."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _finite(name: str, tensor: Tensor, source: str) -> Tensor:
    if not _is_finite(tensor):
        raise FailedJob(
            f"{source}: tensor '{name}' has numbers that are not finite: delete {source} to go on from the one before"
        )
    return tensor
