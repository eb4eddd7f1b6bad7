"""Where a run keeps what: ``runs/NAME/{recipe.toml, model/, STAGE/{metrics.jsonl, checkpoints/, best/, model/}}``."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from skillnet_cli.api import FailedJob
from skillnet_cli.recipe import Recipe, dump_toml


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run. ``model`` is always the result of the stage that finished last."""

    path: Path

    @property
    def model(self) -> Path:
        """The model that commands find by default."""
        return self.path / "model"

    def stage(self, name: str) -> StageFolder:
        """The folder of one stage."""
        return StageFolder(self.path / name)

    def keep_recipe(self, recipe: Recipe) -> None:
        """Write the recipe, overrides included, so that it can be trained again from here."""
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / "recipe.toml.partial"
        partial.write_text(dump_toml(recipe.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
        os.replace(partial, self.path / "recipe.toml")

    def publish(self, model: Path) -> None:
        """Make ``model`` the run's model. Its files are linked, not copied, where the file system can."""
        replace_linked(model, self.model)


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage of a run."""

    path: Path

    @property
    def metrics(self) -> Path:
        """One JSON object a line: every update, every evaluation."""
        return self.path / "metrics.jsonl"

    @property
    def init(self) -> Path:
        """Which tensors came from which pretrained model; exists where the recipe's ``[init]`` was used."""
        return self.path / "init.json"

    @property
    def checkpoints(self) -> Path:
        """The training's states to go on from."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The stage's result; it exists once the stage has finished."""
        return self.path / "model"

    @property
    def best(self) -> Path:
        """The models of the best evaluations, where the recipe asks for them."""
        return self.path / "best"


def replace_linked(model: Path, target: Path) -> None:
    """Put a model's folder where ``target`` is. Its files are linked, not copied, where the file system can."""
    mark = uuid.uuid4().hex[:8]
    fresh, old = (target.with_name(f".{target.name}.{mark}.{kind}") for kind in ("partial", "old"))
    shutil.copytree(model, fresh, copy_function=_link)
    if target.exists():
        os.replace(target, old)
    os.replace(fresh, target)
    shutil.rmtree(old, ignore_errors=True)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


@contextmanager
def disk_told(path: Path) -> Iterator[None]:
    """Raises FailedJob, naming the path, where the disk does not take what is written there."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise FailedJob(f"{path} cannot be written: {error}") from error
