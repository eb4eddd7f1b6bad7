"""Which model a command works with, and opening the parts that the command activates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillnet_cli.api import Reader, UserError
from skillnet_cli.cli.common import remark
from skillnet_cli.places import repository_of
from skillnet_cli.plugins import load_registry, require
from skillnet_cli.untrusted import Untrusted, read_json

if TYPE_CHECKING:
    from skillnet_cli.model.config import SkillNetConfig
    from skillnet_cli.model.hub import Source
    from skillnet_cli.model.skillnet import SkillNet
    from skillnet_cli.objectives import TaskConfig

RUNS = Path("runs")
COLLECTION = "collection"
"""The collection of a run, where none is named."""


@dataclass(frozen=True)
class Saved:
    """A saved model: where it lies, and its configuration. No weights are read before :meth:`open`."""

    source: Source
    config: SkillNetConfig

    @property
    def folder(self) -> Path:
        """The model's folder; for a hub repository, the folder of the fetched files."""
        return self.source.folder

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of the model's weights, configuration and assets."""
        from skillnet_cli.model.checkpoint import fingerprint

        return fingerprint(self.folder)

    @property
    def run(self) -> Path | None:
        """The run that exported the model, if the model lies in one."""
        parent = self.folder.resolve().parent
        return parent if (parent / "recipe.toml").exists() else None

    def collection(self, given: Path | None) -> Path:
        """The collection given, else that of the model's run. Raises UserError where the model lies in no run."""
        if given is not None:
            return given
        if self.run is None:
            raise UserError(f"name a collection: {self.folder} is not in a run, whose collection would be used")
        return self.run / COLLECTION

    def task(self, name: str) -> TaskConfig:
        """One of the model's tasks. Raises UserError where it has none of that name."""
        require("task", name, self.config.tasks, f"the model in {self.source.name}", load_registry())
        return self.config.task(name)

    def open(
        self,
        skills: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
        device: str | None = None,
    ) -> tuple[SkillNet, Mapping[str, Reader]]:
        """The model with these skills and tasks, ready for use, and their readers; other plugins are not needed.

        Args:
            skills: which skills; those that ``tasks`` activate where only these are given.
            tasks: which tasks; all whose skills are there where none are given.
            device: where the model computes; a GPU where there is one by default.

        Raises:
            UserError: a plugin is missing, or a file is missing, damaged, or of another size; there is no such device.
        """
        from skillnet_cli.model.device import choose_device
        from skillnet_cli.model.skillnet import SkillNet

        place = choose_device(device)
        model = SkillNet.from_pretrained(self.source, skills=skills, tasks=tasks, registry=load_registry())
        model.to(place)
        return model, model.readers


def choose_checkpoint(given: Path | None) -> Path:
    """What --checkpoint or SKILLNET_CHECKPOINT names, else the newest run's model, whose path is printed.

    A run's folder stands for its model.

    Raises:
        UserError: there is none.
    """
    if given is not None:
        inside = given / "model"
        chosen = inside if (inside / _CONFIG).is_file() and not (given / _CONFIG).exists() else given
        repository_of(chosen)  # raises where it is nothing of both
        return chosen
    newest = _newest()[0]
    remark(f"using {newest}")
    return newest


_CONFIG = "config.json"


def check_stated(given: Path | None, *, tasks: Iterable[str] = (), skills: Iterable[str] = ()) -> None:
    """Refuse a task or a skill that no model has which the command could take.

    Reads nothing but the names in their configurations, and so says at once what opening one would say after seconds.

    Args:
        given: what --checkpoint or SKILLNET_CHECKPOINT names.
        tasks: tasks that the model must have.
        skills: skills that it must have.

    Raises:
        UserError: none has it, or there is no model.
    """
    models = _newest() if given is None else [choose_checkpoint(given)]
    documents = [_document(model) for model in models]
    if not all(documents):
        return  # of a hub, or damaged, which whoever opens it says
    where = f"the model in {given}" if given else f"{RUNS}/*/model"
    for kind, wanted in (("task", tasks), ("skill", skills)):
        known = dict.fromkeys(name for document in documents for name in document.get(f"{kind}s", ()))
        for name in wanted:
            require(kind, name, known, where, load_registry())


def _document(model: Path) -> dict[str, Any]:
    """A model's configuration as it stands in its file; empty where it is not on this machine or not readable."""
    try:
        document = read_json(model / _CONFIG)
    except (OSError, Untrusted):
        return {}
    is_stated = isinstance(document, dict) and all(isinstance(document.get(each), dict) for each in ("tasks", "skills"))
    return document if is_stated else {}


def _newest() -> list[Path]:
    """The models of runs, the newest first. Raises UserError where there is none."""
    models = [config.parent for config in RUNS.glob("*/model/config.json")]
    if not models:
        raise UserError("no model in runs/*/model: name one with --checkpoint or SKILLNET_CHECKPOINT, or train one")
    return sorted(models, key=lambda folder: (folder / _CONFIG).stat().st_mtime_ns, reverse=True)


def find_checkpoint(given: Path | None, suits: Callable[[Saved], bool] | None = None) -> Saved:
    """The chosen model, not opened yet: the one given, else the newest run's, whose path is printed.

    Args:
        given: what --checkpoint or SKILLNET_CHECKPOINT names.
        suits: what the command needs of a model: where none is given, the newest run that has it is taken, and the
            newest of all where none has it.

    Raises:
        UserError: there is none, or its configuration is damaged.
    """
    if given is not None or suits is None:
        return _saved(choose_checkpoint(given))
    models = _newest()
    for model in models:
        with suppress(UserError):  # a damaged one, or one whose plugins are missing
            saved = _saved(model)
            if suits(saved):
                remark(f"using {model}")
                return saved
    return _saved(choose_checkpoint(None))


def find_with_collection(given: Path | None, named: Path | None, *, may_begin: bool) -> tuple[Saved, Path]:
    """The chosen model and the collection that is searched or added to: where one is not given, what fits the other.

    A collection is opened with the model that began it, or else with the newest run's whose vectors are the same.

    Args:
        given: what --checkpoint or SKILLNET_CHECKPOINT names.
        named: the collection's folder.
        may_begin: whether there need not be a collection yet.

    Raises:
        UserError: there is no model, its configuration is damaged, or no collection is named and it lies in no run.
    """
    from skillnet_cli.inference.capabilities import Capabilities
    from skillnet_cli.inference.collection import FACTS, MadeBy, fits, model_of

    def suits(saved: Saved) -> bool:
        capabilities = Capabilities(saved.config, load_registry())
        place = saved.collection(named) if named or saved.run else None
        if place is not None and (place / FACTS).exists():
            return fits(place, MadeBy.of(saved.folder, capabilities))
        return may_begin and bool(capabilities.embeddable)

    own = model_of(named) if given is None and named is not None else None
    if named is not None and own is not None:
        with suppress(UserError):
            saved = _saved(own)
            if suits(saved):
                remark(f"using {own}, the model of {named}")
                return saved, named
    saved = find_checkpoint(given, suits)
    return saved, saved.collection(named)


def _saved(chosen: Path) -> Saved:
    from skillnet_cli.model.config import read_config
    from skillnet_cli.model.hub import find

    hush_transformers()
    source = find(chosen)
    return Saved(source, read_config(source.folder, load_registry()))


def hush_transformers() -> None:
    """Keep transformers' own progress bars and advice off standard error."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
