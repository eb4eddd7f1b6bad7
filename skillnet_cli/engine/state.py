"""The training's state as plain tensors, whatever the layout in memory, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from skillnet_cli.api import UserError
from skillnet_cli.engine.distribution import held_like, whole


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, whole. All ranks must call this together."""
    return {name: whole(tensor.detach()) for name, tensor in model.state_dict().items()}


def load_model_tensors(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> list[str]:
    """Put saved tensors into the model by name and return the model's tensors that ``source`` does not have.

    Raises:
        UserError: a tensor has another shape in ``source``.
    """
    own = model.state_dict()
    for name, tensor in own.items():
        if name in tensors and tensors[name].shape != tensor.shape:
            saved, wanted = tuple(tensors[name].shape), tuple(tensor.shape)
            raise UserError(f"{source}: tensor '{name}' has shape {saved}, the recipe asks for {wanted}")
    with torch.no_grad():
        for name in own.keys() & tensors.keys():
            own[name].copy_(held_like(tensors[name], own[name]))
    return [name for name in own if name not in tensors]


def optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """``PARAMETER/exp_avg`` and the like, whole, for the parameters updated so far. Together on all ranks."""
    return {
        f"{name}/{key}": whole(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo :func:`optimizer_tensors`."""
    parameters = dict(model.named_parameters())
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        like = parameters[name]
        state = optimizer.state[like]
        state[key] = value.to(like.device) if value.shape != like.shape else held_like(value, like)
