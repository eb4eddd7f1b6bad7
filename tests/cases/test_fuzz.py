"""Files of every kind, altered by chance, through whatever reads them: one line each, soon, and in bounded memory.

What is altered comes from a seed, so that a failure can be repeated: its message names the kind and the number. The
sample that every run takes is small; ``make soak`` takes 10,000 of all kinds together.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cases.altering import GROWTH, altered, counts, failure, peak
from tests.cli.test_verbs import RECIPE
from tests.inference.world import World, plugin_alone


@dataclass(frozen=True)
class Kind:
    """A kind of file: where one lies in the world, and the commands that read it."""

    path: str
    commands: tuple[str, ...]


EVAL = "eval --task kind --split pairs --limit 4"
MODEL, SET = "runs/small/model", "data/pairs"
KINDS = {
    "config": Kind(f"{MODEL}/config.json", ("inspect", "skills list", "search abc --in c", "inspect --json")),
    "index": Kind(f"{MODEL}/model.safetensors.index.json", ("skills list", "transcribe a.hum", EVAL)),
    "weights": Kind(f"{MODEL}/model-skill-word.safetensors", ("search abc --in c", f"skills diff base {MODEL}", EVAL)),
    "card": Kind(f"{MODEL}/README.md", ("export --skills word --to out", EVAL)),
    "manifest": Kind(f"{SET}/manifest.json", ("data show pairs", "data verify pairs", EVAL, "embed pairs --to c")),
    "ledger": Kind(f"{SET}/ledger.jsonl", ("data show pairs", "data verify pairs")),
    "shard": Kind(f"{SET}/test-000000.tar", ("data show pairs", "data verify pairs", EVAL)),
    "offsets": Kind(f"{SET}/test-000000.index.npy", ("data show pairs", "data verify pairs", EVAL)),
    "checksums": Kind(f"{SET}/test-000000.crc32.npy", ("data verify pairs", "data overlap pairs:train pairs:test")),
    "results": Kind("runs/small/results.json", ("report runs/small", "eval --task kind --split pairs:test")),
    "metrics": Kind("runs/small/finetune/metrics.jsonl", ("report runs/small",)),
    "recipe": Kind("tiny.toml", ("recipes check tiny.toml", "recipes show tiny.toml --resolved")),
    "collection": Kind("c/collection.json", ("search abc --in c", "embed pairs --to c")),
    "table": Kind("table.csv", ("prepare table table.csv --task kind --columns word=word,kind=kind --out out",)),
}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A run with results, a prepared set, a collection, a recipe and a table, all sound."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch, plugin_alone(patch):
        patch.chdir(folder)
        world = World(folder)
        world.prepare("pairs")
        world.save_run()
        (folder / "a.hum").write_bytes(b"abcabc")
        world.skillnet("eval", "--task", "kind", "--split", "pairs:test")
        world.skillnet("embed", "pairs", "--to", "c")
        world.skillnet("export", "--tasks", "hear", "--to", "base")
        stage = folder / "runs" / "small" / "finetune"
        stage.mkdir()
        rows = (f'{{"kind": "train", "step": {step}, "task": "kind", "loss": 1.5}}\n' for step in range(1, 30))
        (stage / "metrics.jsonl").write_text("".join(rows))
        (folder / "tiny.toml").write_text(RECIPE)
        (folder / "table.csv").write_text("word,kind\n" + "".join(f"abc{row},{'ab'[row % 2]}\n" for row in range(20)))
        yield world


@pytest.mark.parametrize("count", counts(6, 500))
@pytest.mark.parametrize("name", KINDS)
def test_s04_altered_files_of_models_sets_runs_and_collections(
    name: str, count: int, origin: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = KINDS[name]
    content = (origin.folder / kind.path).read_bytes()
    before, wrong = peak(), []
    for number in range(count):
        folder = tmp_path / str(number)
        shutil.copytree(origin.folder, folder)
        (folder / kind.path).write_bytes(altered(content, random.Random(f"{name} {number}")))
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            words = kind.commands[number % len(kind.commands)].split()
            if said := failure(lambda words=words, folder=folder: World(folder).skillnet(*words, code=None)):
                wrong.append(f"{name} {number}, {' '.join(words)}: {said}")
        shutil.rmtree(folder)
    assert not wrong, "\n".join(wrong)
    assert peak() - before < GROWTH
