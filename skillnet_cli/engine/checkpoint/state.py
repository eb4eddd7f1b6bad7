"""The training's state as named tensors, whatever the layout in memory, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.engine.checkpoint.format import STATE, Checkpoint, Chunk, ShardedTensors, local_shard
from skillnet_cli.engine.distributed.mesh import full_tensor
from skillnet_cli.untrusted import Untrusted, validate

_Count = Annotated[int, Field(ge=0, lt=1 << 53)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Progress(_Section):
    step: _Count
    skipped: _Count
    skipped_in_row: _Count


class _Data(_Section):
    labels: dict[str, str]
    shards: dict[str, dict[str, tuple[str, int]]]


class _State(_Section):
    """What a training keeps in a checkpoint's :data:`STATE`."""

    progress: _Progress
    precision: Literal["bf16", "fp32"]
    strategy: Literal["replicate", "fsdp"]
    world: Annotated[int, Field(ge=1, lt=1 << 31)]
    trained_by: dict[str, int | dict[str, Any]]
    data: _Data | None = None


def saved_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a training has saved that is not a tensor: ``progress``, ``precision``, ``strategy``, ``world``, …

    Raises:
        FailedJob: it is damaged, or not what a training saves.
    """
    state = checkpoint.state()
    try:
        progress = validate(_State, {**state, "data": _with_tuples(state.get("data"))}).progress
        if progress.step != checkpoint.step or max(progress.skipped, progress.skipped_in_row) > progress.step:
            raise Untrusted(f"progress: its steps are not those of {checkpoint.folder.name}")
    except Untrusted as error:
        folder = checkpoint.folder
        raise FailedJob(
            f"{folder / STATE}: {error}: delete {folder} to resume from the checkpoint before it"
        ) from error
    return state


def _with_tuples(data: Any) -> Any:
    """JSON has no tuples, which strict schemas ask for."""
    try:
        shards = {name: {file: tuple(facts) for file, facts in some.items()} for name, some in data["shards"].items()}
    except (TypeError, AttributeError, KeyError):
        return data
    return {**data, "shards": shards}


def full_tensors(model: nn.Module, wanted: bool) -> dict[str, Tensor]:
    """Every parameter and buffer in full where they are ``wanted``, nothing elsewhere. Together on all ranks."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        full = full_tensor(tensor)  # on every rank, since it is a collective; one tensor at a time needs little memory
        if wanted:
            tensors[name] = full
    return tensors


def load_full_tensors(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> list[str]:
    """Put full tensors into a model that is not sharded, and return its tensors that ``source`` does not have.

    Args:
        model: on one rank.
        tensors: by name; those that the model does not have are left out.
        source: where they come from, for messages.

    Raises:
        UserError: a tensor has another shape in ``source``, or is not finite.
    """
    own = model.state_dict()
    for name, tensor in own.items():
        if name in tensors and tensors[name].shape != tensor.shape:
            saved, wanted = tuple(tensors[name].shape), tuple(tensor.shape)
            raise UserError(f"{source}: tensor '{name}' has shape {saved}, the recipe asks for {wanted}")
        if name in tensors and not _is_finite(tensors[name]):
            raise UserError(f"{source}: tensor '{name}' has values that are not finite: choose another model")
    with torch.no_grad():
        for name in own.keys() & tensors.keys():
            own[name].copy_(tensors[name])
    return [name for name in own if name not in tensors]


def restore_tensors(tensors: Mapping[str, Tensor], saved: ShardedTensors, source: str) -> None:
    """Put what was saved into the shards that this rank holds.

    Args:
        tensors: to be filled, by name.
        saved: has all of them.
        source: the checkpoint, for messages.

    Raises:
        FailedJob: a tensor is missing, has another shape, is damaged or not finite.
    """
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name not in saved or saved.shape(name) != tuple(tensor.shape):
                raise FailedJob(f"{source}: tensor '{name}' is missing or has another shape: delete {source}")
            local_shard(tensor).copy_(_finite(name, saved.read(name, Chunk.of(tensor)), source))


def optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """``PARAMETER/exp_avg`` and the like for the parameters updated so far, as this rank holds them.

    What no task has updated yet has no state, and gets none by saving: AdamW's step count differs by parameter.
    """
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(model: nn.Module, optimizer: Optimizer, saved: ShardedTensors, source: str) -> None:
    """Undo :func:`optimizer_tensors`, in whatever layout the parameters are.

    Args:
        model: whose parameters the state belongs to.
        optimizer: to be filled.
        saved: what :func:`optimizer_tensors` gave.
        source: the checkpoint, for messages.

    Raises:
        FailedJob: a tensor is damaged or not finite.
    """
    parameters = dict(model.named_parameters())
    for path in saved.names:
        name, _, key = path.rpartition("/")
        if name not in parameters:
            raise FailedJob(f"{source}: the model has no parameter '{name}', whose moments were saved: delete {source}")
        parameter = parameters[name]
        if saved.shape(path) == tuple(parameter.shape):
            value = _finite(path, saved.read(path, Chunk.of(parameter)), source).to(parameter.device)
            if isinstance(parameter, DTensor):  # moments have the layout of their parameter
                mesh, placements = parameter.device_mesh, parameter.placements
                shape, stride = parameter.shape, parameter.stride()
                value = DTensor.from_local(value, mesh, placements, shape=shape, stride=stride)
        else:  # a count of steps
            value = saved.read(path).to(parameter.device)
        optimizer.state[parameter][key] = value


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _finite(name: str, tensor: Tensor, source: str) -> Tensor:
    if not _is_finite(tensor):
        raise FailedJob(
            f"{source}: tensor '{name}' has values that are not finite: "
            f"delete {source} to resume from the checkpoint before it"
        )
    return tensor
