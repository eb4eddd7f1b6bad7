"""A small world to use a model in: the plugin ``bytes``, its prepared sets, a model, a run, and the command line."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from skillnet_cli.api import Reader
from skillnet_cli.cli.app import run
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.model.build import build_config, build_readers
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig
from skillnet_cli.plugins import load_registry, resolve
from skillnet_cli.prepare.preparer import Preparation

PLUGIN = Path(__file__).parent / "plugin"
SIZES = {
    "layers": 2, "hidden": 16, "heads": 2, "ffn": 32, "norm": "pre", "activation": "gelu", "dropout": 0.0,
}  # fmt: skip
LABELS = {"kind": tuple("abcdef"), "hear": tuple("abcuvwxyz"), "guess": tuple(map(str, range(8)))}
SETS = {"find": ("pairs",), "kind": ("pairs",), "fill": ("pairs",), "hear": ("hums",), "guess": ("hums",)}


@dataclass(frozen=True)
class World:
    """A folder with ``data`` and ``runs``, both made by the plugin ``bytes``."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "small"

    def prepare(self, name: str) -> PreparedSet:
        """A prepared set, made if it is not there."""
        if not (self.data / name).exists():
            dataset = load_registry().dataset(name)
            resolve(dataset.prepare)(Preparation(dataset, (), self.data / name))
        return PreparedSet.open(self.data / name)

    def model(self, seed: int = 1, **sizes: Any) -> tuple[SkillNet, dict[str, Reader]]:
        """A model of all the plugin's skills and tasks, untrained, in float32."""
        torch.manual_seed(seed)
        registry = load_registry()
        tasks = [
            TaskConfig(**vars(owned.value), labels=LABELS.get(name, ()), datasets=SETS[name])
            for name, owned in registry.tasks.items()
        ]
        readers = build_readers({skill: {} for skill in registry.modalities}, registry)
        return SkillNet(build_config({**SIZES, **sizes}, readers, tasks, registry), registry).eval(), readers

    def save_run(self, seed: int = 1) -> Path:
        """A run with a model; returns the model's folder."""
        self.run.mkdir(parents=True, exist_ok=True)
        (self.run / "recipe.toml").write_text('name = "small"\n')
        model, readers = self.model(seed)
        model.save(self.run / "model", readers)
        return self.run / "model"

    def skillnet(self, *words: str, code: int | None = 0, env: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Run the command line as its console script does, in this process; returns standard output and error.

        ``code`` is the exit code that it must have, None for any. What the command line does not turn into a line and a
        code is raised here as it would be a traceback there.
        """
        load_registry.cache_clear()
        printed, remarks = io.StringIO(), io.StringIO()
        with redirect_stdout(printed), redirect_stderr(remarks), patch.dict(os.environ, env or {}):
            ended = run(words)
        assert code in (None, ended), (ended, printed.getvalue(), remarks.getvalue())
        return printed.getvalue(), remarks.getvalue()

    def answer(self, *words: str) -> Any:
        """What a verb prints with ``--json``."""
        return json.loads(self.skillnet(*words, "--json")[0])


@contextmanager
def plugin_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin ``bytes`` and no other, here and in processes that the test starts."""
    monkeypatch.syspath_prepend(PLUGIN)
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (PLUGIN, root))))
    monkeypatch.setenv("SKILLNET_PLUGINS", "bytes")
    load_registry.cache_clear()
    yield
    load_registry.cache_clear()
