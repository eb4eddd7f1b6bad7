"""How a model is opened, saved and pushed: transformers' three methods, by part.

All three are written here, so nothing of transformers' own base class would be left to inherit but its import, which
takes 177 MB and most of the time in which a command starts.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from skillnet_cli.api import Reader, UserError
from skillnet_cli.files import replace_path
from skillnet_cli.model.build import build_readers
from skillnet_cli.model.card import write_card
from skillnet_cli.model.checkpoint import ASSETS, INDEX, SINGLE, Weights, fitted, replace_model, write_weights
from skillnet_cli.model.config import SkillNetConfig, check_config, cut_down, read_config, settings_digest
from skillnet_cli.model.device import on_meta
from skillnet_cli.model.hub import Source, find, push
from skillnet_cli.plugins import Registry, load_registry

Module = TypeVar("Module", bound=nn.Module)
FORMER_NAMES = {"logit_scale": "log_scale"}
"""The last word of parameters' names, and what it was in models saved by skillnet 0.1: the temperature's."""


def _open_weights(
    source: Source, config: SkillNetConfig, registry: Registry, build: Callable[[], Module], *, verify: bool, all_: bool
) -> Module:
    """The module that ``build`` makes of ``config``, with its parameters mapped from the files of ``source``.

    Args:
        source: where the files are, or come to.
        config: of the model, whole or cut down.
        registry: the installed plugins.
        build: is called with the meta device as torch's default, so that nothing is allocated or initialised.
        verify: compare what is read with its checksums.
        all_: refuse tensors that the module has no place for.

    Raises:
        UserError: a plugin is missing; the configuration asks for something unknown; a file is missing, damaged or of
            another model. The line names file and tensor.
    """
    check_config(config, source.folder / "config.json", registry)
    _check_installed(config, registry)
    try:
        with on_meta():
            module = build()
    except UserError as error:
        raise UserError(f"{source.folder / 'config.json'}: {error}") from error
    wanted = module.state_dict()
    weights = _under_current_names(Weights.open(source.folder), wanted)
    source.fetch_weights(weights.holding(wanted), list(config.skills))
    _check(weights, {name: tuple(tensor.shape) for name, tensor in wanted.items()}, all_)
    if verify:
        weights.check_assets(config.skills)
    tensors = weights.read(wanted, verify)
    fitting = {name: fitted(tensor, wanted[name].dtype, weights, name) for name, tensor in tensors.items()}
    return _filled(module, fitting, build)


def check_shapes(folder: Path, model: nn.Module) -> None:
    """See that the files of a model have its tensors, as far as they are there. Their headers alone are read.

    Raises:
        UserError: a tensor is missing or has another shape, or a file is damaged.
    """
    if not (folder / INDEX).exists() and not (folder / SINGLE).exists():
        return
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    weights = _under_current_names(Weights.open(folder), shapes)
    weights.holding(shapes)
    _check(weights, {name: shape for name, shape in shapes.items() if weights.location(name).exists()}, all_=False)


def _check_installed(config: SkillNetConfig, registry: Registry) -> None:
    """Raises UserError, naming the distribution to install, where the plugin of one of the skills is missing."""
    for skill, facts in config.skills.items():
        if skill in registry.modalities:
            continue
        broken = {plugin.distribution: plugin.error for plugin in registry.plugins if plugin.error}
        plugin = facts["plugin"]
        advice = (
            f"which could not be loaded ({broken[plugin]})" if plugin in broken
            else f"which is not installed: pip install {plugin} (the model was made with version {facts['version']})"
        )  # fmt: skip
        raise UserError(f"skill '{skill}' needs the plugin {plugin}, {advice}")


def _under_current_names(weights: Weights, wanted: Iterable[str]) -> Weights:
    """The weights of a saved model, with tensors of ``wanted`` that it has under a name of an earlier version."""
    former = {}
    for name in (name for name in wanted if name not in weights.files):
        stem, _, last = name.rpartition(".")
        saved = f"{stem}.{FORMER_NAMES.get(last, last)}"
        if saved in weights.files:
            former[name] = saved
    return weights.renamed(former)


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


ModelT = TypeVar("ModelT", bound="PersistenceMixin")
HUB_OPTIONS = {"revision", "token", "cache_dir", "local_files_only", "force_download"}
FROM_AUTO = {"_from_auto", "trust_remote_code", "adapter_kwargs", "use_safetensors"}
"""What transformers' Auto classes hand on, and what asks for no more than is always done."""
PUSH_OPTIONS = {"commit_message", "commit_description", "private", "token", "revision", "create_pr", "tags"}


class PersistenceMixin(nn.Module):
    """A model whose parts are files of their own, opened only when they are asked for.

    It is opened and saved as transformers' models are, and its folder is one that Hugging Face's tools read.

    ``readers`` has the readers of a model that was opened from a folder or a repository; their assets are saved with
    it.
    """

    config: SkillNetConfig

    def __init__(self, config: SkillNetConfig, registry: Registry | None = None) -> None:
        super().__init__()
        self.config = config
        self.readers: Mapping[str, Reader] = {}

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @classmethod
    def _from_config(cls: type[ModelT], config: SkillNetConfig, **options: Any) -> ModelT:
        """What ``AutoModel.from_config`` calls."""
        return cls(config, **options)

    @classmethod
    def from_pretrained(
        cls: type[ModelT],
        pretrained_model_name_or_path: str | os.PathLike[str] | Source,
        *,
        skills: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
        config: SkillNetConfig | None = None,
        registry: Registry | None = None,
        verify: bool = True,
        dtype: str | torch.dtype | None = None,
        **options: Any,
    ) -> ModelT:
        """Open a saved model, or some of its skills and tasks: only the files of what these activate are read.

        Parameters are mapped from the files, not copied; changing them changes no file.

        Args:
            pretrained_model_name_or_path: a folder, or a hub repository ``owner/name``; or a found
                :class:`~skillnet_cli.model.hub.Source`.
            skills: which skills to have; those that ``tasks`` activate where only these are given.
            tasks: which tasks to have; all whose skills are there where none are given.
            config: stands in for the saved configuration.
            registry: the plugins to build from; the installed ones by default.
            verify: compare everything that is read with its checksums.
            dtype: convert the parameters, which copies them.
            options: ``revision``, ``token``, ``cache_dir``, ``local_files_only``, ``force_download``: for repositories.

        Raises:
            UserError: there is no such model, skill or task; a plugin is missing; a file is damaged or altered.
            TypeError: an option is not in this list.
        """
        source = find(pretrained_model_name_or_path, **_hub_options(options))
        registry = registry or load_registry()
        saved = read_config(source.folder, registry)
        if config is not None:
            config = copy.deepcopy(config)
            skills, tasks = _asked(config, "skills", saved, skills), _asked(config, "tasks", saved, tasks)
        chosen = cut_down(config or saved, skills, tasks, source.name)
        chosen.name_or_path = source.name
        everything = skills is None and tasks is None
        model = _open_weights(source, chosen, registry, lambda: cls(chosen, registry), verify=verify, all_=everything)
        embedders = {skill: facts["embedder"] for skill, facts in chosen.skills.items()}
        model.readers = build_readers(embedders, registry, source.folder / ASSETS)
        if dtype not in (None, "auto"):
            model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
        return model.eval()

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **hub_options: Any,
    ) -> None:
        """Write configuration, weights by part, the readers' assets and the model card into a folder.

        A model that lies there already is replaced whole; other files stay.

        Args:
            save_directory: the folder, made where it is missing.
            is_main_process: False writes nothing.
            state_dict: what to save as this model's tensors, its own by default.
            push_to_hub: upload the folder to ``repo_id``, by default named as the folder.
            repo_id: ``owner/name``.
            hub_options: with ``push_to_hub``, those of :meth:`push_to_hub`.

        Raises:
            TypeError: an option is not supported, such as ``max_shard_size``: every part is one file.
        """
        for name in hub_options:
            if not push_to_hub or name not in PUSH_OPTIONS:
                raise TypeError(f"SkillNet.save_pretrained() takes no '{name}'")
        if not is_main_process:
            return
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{uuid.uuid4().hex[:8]}.partial"
        try:
            self._write(fresh, state_dict)
            replace_model(folder, fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        if push_to_hub:
            self.push_to_hub(repo_id or folder.resolve().name, **hub_options)

    def save(self, folder: Path, readers: Mapping[str, Reader] | None = None) -> None:
        """Write configuration, weights by part, assets and card into ``folder``, which is replaced as a whole.

        Args:
            folder: at no moment is there half a model in it.
            readers: those of the model's skills, if it was not opened from a folder, which gives it readers.
        """
        self.readers = self.readers if readers is None else dict(readers)
        fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            self._write(fresh)
            replace_path(folder, fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _write(self, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write the model's files into ``folder``, which must not exist yet."""
        self.config.architectures = [type(self).__name__]
        write_description(self.config, self.readers, folder)
        tensors = self.state_dict() if state_dict is None else state_dict
        write_weights(tensors, folder, settings_digest(folder))
        write_card(folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        tags: Sequence[str] | None = None,
    ) -> Any:
        """Upload the model to a hub repository, which is created if it does not exist.

        Args:
            repo_id: ``owner/name``.
            commit_message: the commit's first line.
            commit_description: what follows it.
            private: whether a repository that is created is private.
            token: the user's access token; by default the one that ``hf auth login`` has stored.
            revision: the branch to commit to.
            create_pr: open a pull request instead of committing to the branch.
            tags: words to add to the model card's tags.

        Returns:
            The commit, as huggingface_hub describes it.
        """
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / Path(repo_id).name
            self._write(folder)
            return push(
                folder,
                repo_id,
                private=private,
                token=token,
                tags=tags or (),
                commit_message=commit_message or f"Upload {type(self).__name__}",
                commit_description=commit_description,
                revision=revision,
                create_pr=create_pr,
            )


def write_description(config: SkillNetConfig, readers: Mapping[str, Reader], folder: Path) -> None:
    """Write configuration and assets, all of a model but its weights, into a folder that does not exist yet."""
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    for skill, reader in readers.items():
        assets = folder / ASSETS / skill
        assets.mkdir(parents=True)
        reader.save(assets)


def _asked(
    config: SkillNetConfig, key: str, saved: SkillNetConfig, given: Sequence[str] | None
) -> Sequence[str] | None:
    """The ``skills`` or ``tasks`` that an Auto class was asked for, taken out of the configuration; else ``given``.

    The Auto classes put arguments there that are called like its keys.
    """
    names = getattr(config, key)
    if not isinstance(names, (list, tuple)):
        return given
    setattr(config, key, getattr(saved, key))
    return names


def _hub_options(options: Mapping[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in HUB_OPTIONS | FROM_AUTO:
            raise TypeError(f"SkillNet.from_pretrained() takes no '{name}'")
    return {name: value for name, value in options.items() if name in HUB_OPTIONS and value is not None}
