"""Where a run keeps what: ``runs/NAME/{recipe.toml, model/, STAGE/{metrics.jsonl, checkpoints/, model/}}``."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

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
        mark = uuid.uuid4().hex[:8]
        fresh, old = self.path / f".model.{mark}.partial", self.path / f".model.{mark}.old"
        shutil.copytree(model, fresh, copy_function=_link)
        if self.model.exists():
            os.replace(self.model, old)
        os.replace(fresh, self.model)
        shutil.rmtree(old, ignore_errors=True)


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


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
