"""Which model a verb works with, and opening it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skillnet_cli.api import Reader, UserError
from skillnet_cli.cli.output import remark
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.model.skillnet import SkillNet
    from skillnet_cli.objectives import TaskConfig

RUNS = Path("runs")


@dataclass(frozen=True)
class Opened:
    """A model that is ready for use, where it lies, and the fingerprint of its weights."""

    folder: Path
    model: SkillNet
    readers: Mapping[str, Reader]
    fingerprint: str

    @property
    def run(self) -> Path | None:
        """The run that the model was exported by, if it lies in one."""
        parent = self.folder.resolve().parent
        return parent if (parent / "recipe.toml").exists() else None

    def task(self, name: str) -> TaskConfig:
        """One of the model's tasks. Raises UserError where it has none of that name."""
        known = list(self.model.config.tasks or {})
        if name in known:
            return self.model.task(name)
        load_registry().task(name)  # says what to install, or which name is near
        raise UserError(f"the model in {self.folder} has no task '{name}'; it has {', '.join(known)}")


def choose_checkpoint(given: Path | None) -> Path:
    """The folder given with --checkpoint or SKILLNET_CHECKPOINT, else the newest run's model, which is named.

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


def open_checkpoint(given: Path | None) -> Opened:
    """Open the chosen model. Raises UserError where it is missing, damaged, or of another size."""
    folder = choose_checkpoint(given)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; --checkpoint names a model's folder")

    import torch

    from skillnet_cli.model.folder import fingerprint, load_model

    hush_transformers()
    model, readers = load_model(folder, load_registry())
    model.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]  # transformers hides the types
    return Opened(folder, model, readers, fingerprint(folder))


def hush_transformers() -> None:
    """Keep transformers' own bars and advice off standard error."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def collection_of(opened: Opened, given: Path | None) -> Path:
    """The collection given, else that of the model's run. Raises UserError where the model lies in no run."""
    if given is not None:
        return given
    if opened.run is None:
        raise UserError(f"name a collection: {opened.folder} lies in no run that could have one")
    return opened.run / "collection"
