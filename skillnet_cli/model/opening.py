"""Opens a saved model: builds what is asked for without memory, then maps the weights of just that from their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import Tensor, nn

from skillnet_cli.api import UserError
from skillnet_cli.model.choosing import check_config, check_installed
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.hub import Source
from skillnet_cli.model.on_meta import on_meta
from skillnet_cli.model.weights import Weights
from skillnet_cli.plugins import Registry

Module = TypeVar("Module", bound=nn.Module)


def open_weights(
    source: Source, config: SkillNetConfig, registry: Registry, build: Callable[[], Module], *, verify: bool, all_: bool
) -> Module:
    """The module that ``build`` makes of ``config``, with its parameters mapped from the files of ``source``.

    Args:
        build: is called with the meta device as torch's default, so that nothing is allocated or initialised.
        verify: compare what is read with its checksums.
        all_: refuse tensors that the module has no place for.

    Raises:
        UserError: a plugin is missing; the configuration asks for something unknown; a file is missing, damaged or of
            another model. The line names file and tensor.
    """
    check_config(config, source.folder / "config.json", registry)
    check_installed(config, registry)
    try:
        with on_meta():
            module = build()
    except UserError as error:
        raise UserError(f"{source.folder / 'config.json'}: {error}") from error
    weights = Weights.open(source.folder)
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    source.fetch_weights(weights.holding(shapes), list(config.skills or {}))
    _check(weights, shapes, all_)
    tensors = weights.read(shapes, verify)
    return _filled(module, tensors, build)


def _check(weights: Weights, wanted: Mapping[str, tuple[int, ...]], all_: bool) -> None:
    for name, shape in weights.shapes(wanted).items():
        if shape != wanted[name]:
            where = weights.location(name)
            raise UserError(f"{where}: tensor '{name}' has shape {shape}, config.json asks for {wanted[name]}")
    for name in weights.files if all_ else ():
        if name not in wanted:
            where = weights.location(name)
            raise UserError(f"{where}: tensor '{name}' is unexpected: config.json has no place for it")


def _filled(module: Module, tensors: Mapping[str, Tensor], build: Callable[[], Module]) -> Module:
    """Put the tensors in place, as they are.

    A module that keeps numbers besides those that are saved is built once more, for real, to have them.
    """
    module.load_state_dict(tensors, assign=True)
    if any(map(_on_meta, module.modules())):
        module = build()
        module.load_state_dict(tensors, assign=True)
    return module


def _on_meta(module: nn.Module) -> bool:
    own = [*module.buffers(recurse=False), *(each for each in vars(module).values() if isinstance(each, Tensor))]
    return any(tensor.is_meta for tensor in own)
