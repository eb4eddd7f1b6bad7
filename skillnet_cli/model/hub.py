"""Where a model's files are: in a folder, or in a hub repository of which only the needed files are fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, ModelCard, snapshot_download
from torch import Tensor

from skillnet_cli.api import UserError
from skillnet_cli.model.checkpoint import ASSETS, CARD, CONFIG, INDEX, SINGLE, Weights, fitted
from skillnet_cli.pace import waiting
from skillnet_cli.places import repository_of
from skillnet_cli.recipe.checks import local_folder

STALE = ["*.safetensors", f"{ASSETS}/*", "pytorch_model*"]
"""What an earlier push may have left in a repository."""


@dataclass
class Source:
    """A model's folder on this machine, or a repository whose files come into ``folder`` when they are asked for.

    ``options`` are those of :func:`huggingface_hub.snapshot_download`: ``revision``, ``token``, ``cache_dir``,
    ``local_files_only``, ``force_download``.
    """

    name: str
    folder: Path = Path()
    repository: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def fetch(self, *patterns: str) -> None:
        """Have these files in the folder, as far as the repository has them. Raises UserError where it is not there."""
        if self.repository is None:
            return
        try:
            with waiting():  # the library has limits of its own
                place = snapshot_download(self.repository, allow_patterns=list(patterns), **self.options)
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{self.name}: no such folder, nor a repository that can be read ({reason})") from error
        self.folder = Path(str(place))
        self.options = {**self.options, "revision": self.folder.name}  # all files are of one commit

    def fetch_weights(self, files: Sequence[str], skills: Sequence[str]) -> None:
        """Have these files of weights and these skills' assets in the folder."""
        self.fetch(*map(escape, files), *(f"{ASSETS}/{escape(skill)}/*" for skill in skills))


def find(model: str | os.PathLike[str] | Source, **options: Any) -> Source:
    """The folder or hub repository (``[hf:]owner/name``) of a model; its configuration and index are there now.

    Raises:
        UserError: there is no such folder, or the repository cannot be read.
    """
    if isinstance(model, Source):
        return model
    repository = repository_of(model)
    if repository is None:
        return Source(os.fspath(Path(model)), Path(model))
    source = Source(repository, repository=repository, options=options)
    source.fetch(CONFIG, INDEX)
    if not (source.folder / INDEX).exists():
        source.fetch(SINGLE)
    return source


def push(
    folder: Path, repository: str, *, private: bool | None, token: bool | str | None, tags: Sequence[str], **commit: Any
) -> Any:
    """Upload exactly the files of ``folder``, and delete earlier weights and assets from the repository.

    ``commit`` are ``commit_message``, ``commit_description``, ``revision`` and ``create_pr``. Returns the commit.
    """
    api = HfApi(token=token)
    target = api.create_repo(repository, private=private, exist_ok=True).repo_id
    if tags:
        card = ModelCard.load(folder / CARD)
        card.data.tags = [*(card.data.tags or []), *(tag for tag in tags if tag not in (card.data.tags or []))]
        card.save(folder / CARD)
    return api.upload_folder(repo_id=target, folder_path=folder, delete_patterns=STALE, **commit)


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
        with waiting():
            return Path(snapshot_download(name, revision=revision or None, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"'{source}' is not a folder and cannot be fetched: {str(error).splitlines()[0]}") from error


class Pretrained(Mapping[str, Tensor]):
    """The tensors of a pretrained model by the names that today's checkpoints have, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError where there are no safetensors, or an index that is wrong."""
        weights = Weights.open(folder)
        current = {_current_name(name): name for name in weights.files}
        self._weights = weights.renamed({name: saved for name, saved in current.items() if name != saved})

    def __contains__(self, name: object) -> bool:
        return name in self._weights.files  # Mapping's own would read the tensor to find out

    def __getitem__(self, name: str) -> Tensor:
        if name not in self:
            raise KeyError(name)
        return fitted(self._weights.read([name])[name], torch.float32, self._weights, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights.files)

    def __len__(self) -> int:
        return len(self._weights.files)


def _current_name(name: str) -> str:
    """A parameter's name as today's checkpoints have it."""
    stem, _, last = name.rpartition(".")
    return f"{stem}.{OLD_NAMES[last]}" if last in OLD_NAMES else name
