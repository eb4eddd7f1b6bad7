"""Pretrained models of others: a folder or a hub's repository with ``config.json`` and safetensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from skillnet_cli.api import UserError
from skillnet_cli.recipe.donors import CONFIG, local_folder

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
OLD_NAMES = {"gamma": "weight", "beta": "bias"}
"""The oldest published checkpoints name the two halves of a layer norm so."""


def fetch_pretrained(source: str) -> Path:
    """The folder of a pretrained model; one of a hub is fetched into its cache, safetensors and configuration alone.

    Raises:
        UserError: ``source`` is neither a folder nor a hub's name, or cannot be fetched.
    """
    folder = local_folder(source)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = source.partition("@")
    wanted = [CONFIG, "*.safetensors", INDEX]
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"'{source}' is no folder here and cannot be fetched: {str(error).splitlines()[0]}") from error


class Weights(Mapping[str, Tensor]):
    """The tensors of a pretrained model by name, each read when it is asked for. Only safetensors are opened."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError where there are no safetensors, or an index that is wrong."""
        self._files = {
            _modern(name): (folder / file, name) for file in _files(folder) for name in _names(folder / file)
        }

    def __getitem__(self, name: str) -> Tensor:
        path, written = self._files[name]
        with _open(path) as file:
            tensor: Tensor = file.get_tensor(written)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _files(folder: Path) -> list[str]:
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / INDEX).is_file():
        return _indexed(folder / INDEX)
    pickled = [path.name for path in sorted(folder.glob("*.bin"))]
    there = f"; {pickled[0]} is a pickle and is not read" if pickled else ""
    raise UserError(f"{folder} has no {WEIGHTS}{there}: save the model with transformers' save_pretrained")


def _indexed(index: Path) -> list[str]:
    try:
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index}: not an index of safetensors") from error
    for file in files:
        if not isinstance(file, str) or Path(file).name != file or not (index.parent / file).is_file():
            raise UserError(f"{index}: names {file!r}, which is no file beside it")
    return files


def _names(path: Path) -> list[str]:
    with _open(path) as file:
        return list(file.keys())


def _open(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]})") from error


def _modern(name: str) -> str:
    """A parameter's name as today's checkpoints have it."""
    stem, _, last = name.rpartition(".")
    return f"{stem}.{OLD_NAMES[last]}" if last in OLD_NAMES else name
