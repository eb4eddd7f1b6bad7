"""Pretrained models of others: a folder or a hub's repository with ``config.json`` and safetensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from skillnet_cli.api import UserError
from skillnet_cli.model.weights import INDEX, Weights
from skillnet_cli.recipe.donors import CONFIG, local_folder

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


class Pretrained(Mapping[str, Tensor]):
    """The tensors of a pretrained model by the names that today's checkpoints have, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError where there are no safetensors, or an index that is wrong."""
        self._weights = Weights.open(folder)
        self._written = {_modern(name): name for name in self._weights.files}

    def __getitem__(self, name: str) -> Tensor:
        written = self._written[name]
        return self._weights.read([written])[written]

    def __iter__(self) -> Iterator[str]:
        return iter(self._written)

    def __len__(self) -> int:
        return len(self._written)


def _modern(name: str) -> str:
    """A parameter's name as today's checkpoints have it."""
    stem, _, last = name.rpartition(".")
    return f"{stem}.{OLD_NAMES[last]}" if last in OLD_NAMES else name
