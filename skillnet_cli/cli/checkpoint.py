"""Which model a command works with, and opening the parts that the command activates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from skillnet_cli.api import Reader, UserError
from skillnet_cli.cli.common import remark
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.model.config import SkillNetConfig
    from skillnet_cli.model.hub import Source
    from skillnet_cli.model.skillnet import SkillNet
    from skillnet_cli.objectives import TaskConfig

RUNS = Path("runs")


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
        return self.run / "collection"

    def task(self, name: str) -> TaskConfig:
        """One of the model's tasks. Raises UserError where it has none of that name."""
        known = list(self.config.tasks)
        if name in known:
            return self.config.task(name)
        load_registry().task(name)  # raises with what to install, or with a name that is close
        raise UserError(f"the model in {self.source.name} has no task '{name}'; it has {', '.join(known)}")

    def open(
        self, skills: Sequence[str] | None = None, tasks: Sequence[str] | None = None
    ) -> tuple[SkillNet, Mapping[str, Reader]]:
        """The model with these skills and tasks, ready for use, and their readers; other plugins are not needed.

        Raises:
            UserError: a plugin is missing, or a file is missing, damaged, or of another size.
        """
        import torch

        from skillnet_cli.model.skillnet import SkillNet

        model = SkillNet.from_pretrained(self.source, skills=skills, tasks=tasks, registry=load_registry())
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        return model, model.readers


def choose_checkpoint(given: Path | None) -> Path:
    """What --checkpoint or SKILLNET_CHECKPOINT names, else the newest run's model, whose path is printed.

    Raises:
        UserError: there is none.
    """
    if given is not None:
        return given
    models = [config.parent for config in RUNS.glob("*/model/config.json")]
    if not models:
        raise UserError("no model in runs/*/model: name one with --checkpoint or SKILLNET_CHECKPOINT, or train one")
    newest = max(models, key=lambda folder: (folder / "config.json").stat().st_mtime_ns)
    remark(f"using {newest}")
    return newest


def find_checkpoint(given: Path | None) -> Saved:
    """The chosen model, not opened yet. Raises UserError where there is none, or its configuration is damaged."""
    chosen = choose_checkpoint(given)

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
