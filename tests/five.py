"""The five real plugins' tasks on a set of a few made-up items, for a model that trains in seconds."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image

from skillnet_cli.engine.checkpoint.format import Checkpoints
from skillnet_cli.prepare.writer import SetWriter
from skillnet_cli.runs import read_metrics
from skillnet_code.learn import learn_vocabulary as learn_code
from skillnet_text.learn import learn_vocabulary as learn_text
from tests.plugins.video.films import film

TASKS = ("tc", "asr", "t2i", "t2v", "t2c")
ITEMS, BATCH, EPOCHS = 16, 8, 3
STEPS = len(TASKS) * EPOCHS * ITEMS // BATCH
"""Three epochs of every task."""

COLOURS = ("红", "绿", "蓝", "黄")
RECIPE = """
name = "five"
[model]
layers = 2
hidden = 32
heads = 2
ffn = 64
dropout = 0.2
[model.embedders]
text = {{ vocab = "{folder}/text.txt", max_length = 32, word_dropout = 0.1 }}
sound = {{ channels = 16, max_seconds = 1.0, max_positions = 50 }}
image = {{ resolution = 32, patch = 16 }}
video = {{ resolution = 32, frames = 3 }}
code = {{ vocab = "{folder}/code.txt", max_length = 48 }}
[train]
precision = "fp32"
checkpoints = {{ every = 4, keep = 3 }}
[finetune]
start_from = "fresh"
steps = {steps}
lr = 1e-3
warmup = 4
"""


@dataclass(frozen=True)
class Five:
    """A folder with the set ``five``, its vocabularies, a recipe, and runs."""

    folder: Path

    def start(self, run: str, steps: int = STEPS, **options: Any) -> subprocess.Popen[bytes]:
        """``skillnet finetune`` on the recipe as the run of that name; what it says goes to ``RUN.log``."""
        recipe = self.folder / f"{run}.toml"
        tasks = "".join(f'[finetune.tasks.{task}]\ndatasets = ["five"]\nbatch = {BATCH}\n' for task in TASKS)
        recipe.write_text(RECIPE.format(folder=self.folder, steps=steps) + tasks, encoding="utf-8")
        words = ["finetune", recipe, "--data", self.folder, "--runs", self.folder / "runs", "--set", f"name={run}"]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", value]
        command = [sys.executable, "-m", "skillnet_cli", *map(str, words)]
        with (self.folder / f"{run}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def said(self, run: str) -> str:
        """What the processes of a run have said."""
        return (self.folder / f"{run}.log").read_text(encoding="utf-8")

    def rows(self, run: str) -> list[dict[str, Any]]:
        """What the updates of a run said, without what clocks say."""
        keys = ("step", "task", "loss", "lr", "grad_norm", "count")
        rows = read_metrics(self.folder / "runs" / run / "finetune" / "metrics.jsonl")
        return [{key: row[key] for key in keys} for row in rows if row["kind"] == "train"]

    def state(self, run: str, steps: int = STEPS) -> dict[str, torch.Tensor]:
        """Every parameter and every value of the optimizer at the end."""
        newest = Checkpoints(self.folder / "runs" / run / "finetune" / "checkpoints").latest()
        assert newest is not None and newest.step == steps
        return {
            f"{kind}/{name}": each for kind in ("model", "optimizer") for name, each in newest.tensors(kind).items()
        }


def make_five(folder: Path) -> Five:
    """Items that have a text, a label, a recording with its transcript, a picture, a clip and a function."""
    rng = np.random.default_rng(0)
    items = [_item(number, rng) for number in range(ITEMS)]
    learn_text([text for fields, _ in items for text in fields["text"]] * 3, 200, folder / "text.txt")
    learn_code([fields["code"] for fields, _ in items] * 3, 400, folder / "code.txt")
    with SetWriter(folder / "five", name="five", licence="none") as writer:
        for number, (fields, media) in enumerate(items):
            writer.keep("train", f"item-{number}", fields, media)
        writer.finish({"label": list(COLOURS), "transcript": list("零一二三四五六七八九")})
    return Five(folder)


def _item(number: int, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, tuple[bytes, str]]]:
    colour = COLOURS[number % len(COLOURS)]
    pixels = rng.integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    picture, sound = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels[0]).save(picture, "PNG")
    soundfile.write(sound, rng.normal(0, 0.1, 9_600 + 200 * number).astype(np.float32), 16_000, format="WAV")
    fields = {
        "text": [f"第{number}个{colour}色的方块", f"{colour}色方块{number}"],
        "label": colour,
        "transcript": "零一二三四五六七八九"[number % 10] + "三",
        "code": f"def f{number}(x):\n    return x + {number}  # {colour}\n",
    }
    media = {"sound": sound.getvalue(), "image": picture.getvalue(), "video": film(pixels, rate=3)}
    suffixes = {"sound": ".wav", "image": ".png", "video": ".mp4"}
    return fields, {name: (content, suffixes[name]) for name, content in media.items()}
