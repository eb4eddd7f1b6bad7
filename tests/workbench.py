"""A toy world to train in: prepared sets, a recipe of every objective, runs in this process or others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from skillnet_cli.engine.trainer import run_stage
from skillnet_cli.plugins import load_registry
from skillnet_cli.prepare.writer import SetWriter
from skillnet_cli.recipe import Recipe, load_recipe
from skillnet_cli.runs import read_metrics

TOY = Path(__file__).parent / "toy"
ALPHABET = "abcdefgh"
FRAMES_A_LETTER, WIDTH = 3, 4
TASKS = ("sort", "spell", "match", "fill", "pair", "units")


@contextmanager
def toy_world(folder: Path) -> Iterator[World]:
    """A world with the prepared set ``toy`` and the toy plugin alone, in this process and those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOY)
        patch.setenv("PYTHONPATH", str(TOY))
        patch.setenv("SKILLNET_PLUGINS", "toy")
        load_registry.cache_clear()
        make_set(folder / "data")
        yield World(folder)
    load_registry.cache_clear()


def document(**changes: Any) -> dict[str, Any]:
    """A recipe as a document: all six toy tasks in both stages, float32, no dropout; ``changes`` by dotted key."""
    stage = {"steps": 12, "lr": 1e-2, "warmup": 2}
    recipe: dict[str, Any] = {
        "name": "toy",
        "model": {"layers": 2, "hidden": 16, "heads": 2, "ffn": 32},
        "train": {"precision": "fp32", "workers": 0, "checkpoints": {"every": 4, "keep": 9}},
        "pretrain": {**stage, "tasks": tasks("fill", "units")},
        "finetune": {**stage, "start_from": "fresh", "tasks": tasks(*TASKS)},
    }
    for key, value in changes.items():
        *path, last = key.split("__")
        table = recipe
        for part in path:
            table = table.setdefault(part, {})
        table[last] = value
    return recipe


def tasks(*names: str, **settings: Any) -> dict[str, Any]:
    """The table of a stage's tasks."""
    return {name: {"datasets": ["toy"], "batch": 8, **settings} for name in names}


@dataclass(frozen=True)
class World:
    """A folder with prepared sets in ``data``, recipes, and runs in ``runs``."""

    folder: Path

    @property
    def roots(self) -> list[Path]:
        return [self.folder / "data"]

    def write_recipe(self, **changes: Any) -> Path:
        path = self.folder / "toy.toml"
        sections = {key: section for key, section in document(**changes).items() if section is not None}
        path.write_text(tomli_w.dumps(sections), encoding="utf-8")
        return path

    def recipe(self, **changes: Any) -> Recipe:
        return load_recipe(self.write_recipe(**changes), registry=load_registry())

    def train(self, run: str = "toy", stage: str = "finetune", **changes: Any) -> None:
        """Train in this process."""
        run_stage(self.recipe(**changes), stage, load_registry(), self.run(run), self.roots)

    def run(self, name: str = "toy") -> Path:
        return self.folder / "runs" / name

    def rows(self, kind: str = "train", run: str = "toy", stage: str = "finetune") -> list[dict[str, Any]]:
        return [row for row in read_metrics(self.run(run) / stage / "metrics.jsonl") if row["kind"] == kind]

    def losses(self, run: str = "toy", stage: str = "finetune") -> list[tuple[str, float]]:
        return [(row["task"], row["loss"]) for row in self.rows(run=run, stage=stage)]

    def start(
        self, recipe: Recipe, run: str = "toy", stage: str = "finetune", **processes: Any
    ) -> subprocess.Popen[str]:
        """Train in a process of its own, as the command does."""
        arguments = {
            "recipe": recipe.model_dump(mode="json", exclude_none=True),
            "stage": stage,
            "run": str(self.run(run)),
            "roots": [str(root) for root in self.roots],
            "processes": processes,
        }
        command = [sys.executable, str(Path(__file__).parent / "train_toy.py"), json.dumps(arguments)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=self.folder, start_new_session=True)


TARGETS = {"label": ["odd", "even"], "transcript": list(ALPHABET), "units": [str(unit) for unit in range(8)]}


def make_set(
    folder: Path,
    name: str = "toy",
    train: int = 48,
    dev: int = 12,
    targets: dict[str, list[str]] = TARGETS,
    leave_out: tuple[str, ...] = (),
    words: Sequence[str] = (),
    shard_items: int = 1000,
    **fields: Any,
) -> None:
    """Words in every form that the toy tasks want; ``fields`` override those of the first training item.

    The words are random, or ``words`` over and over.
    """
    rng = np.random.default_rng(0)
    with SetWriter(folder / name, name=name, licence="none", shard_items=shard_items) as writer:
        for split, count in (("train", train), ("dev", dev)):
            for number in range(count):
                drawn = "".join(rng.choice(list(ALPHABET), size=rng.integers(3, 9)))
                word = words[number % len(words)] if words else drawn
                changed = fields if split == "train" and number == 0 else {}
                kept = {key: value for key, value in {**forms(word), **changed}.items() if key not in leave_out}
                media = {} if "waves" in leave_out else {"waves": (wave(word), ".waves")}
                writer.keep(split, f"{split}-{number}", kept, media)
        writer.finish(targets)


def forms(word: str) -> dict[str, Any]:
    """A word's fields but its sound."""
    places = [ALPHABET.index(letter) for letter in word]
    return {
        "letters": [word],
        "marks": word[::-1],
        "label": "even" if places[0] % 2 else "odd",
        "transcript": word,
        "units": [place for place in places for _ in range(FRAMES_A_LETTER)],
    }


def wave(word: str) -> bytes:
    """A word's sound: a letter is three equal frames of four bytes, and letters differ in them."""
    frames = [[8 * place, -8 * place, 16 * (place % 3), place] for place in map(ALPHABET.index, word)]
    return np.repeat(np.array(frames, dtype=np.int8), FRAMES_A_LETTER, axis=0).tobytes()
