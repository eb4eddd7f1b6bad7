"""With only the plugins for text and image, everything that needs no other works, and the rest says what to install."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import pytest
import torch
from torchvision.io import write_png

from tests.verbs import Terminal

COLOURS = {"红色": (220, 30, 30), "绿色": (30, 200, 30), "蓝色": (30, 30, 220), "黄色": (230, 220, 30)}
SIDES = {"左边": slice(0, 16), "右边": slice(16, 32)}
COPIES = 12

RECIPE = """
name = "squares"

[model]
layers = 1
hidden = 32
heads = 2
ffn = 64

[model.embedders.text]
vocab = "text.txt"

[model.embedders.image]
resolution = 32
patch = 8

[finetune]
start_from = "fresh"
steps = 60
lr = 3e-3
warmup = 5

[finetune.tasks.t2i]
datasets = ["squares"]
batch = 16
"""


def draw_squares(folder: Path) -> None:
    """Pictures of coloured squares at the left or the right, and the table that captions them."""
    (folder / "pictures").mkdir()
    generator = torch.Generator().manual_seed(0)
    with (folder / "squares.csv").open("w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table)
        rows.writerow(["image", "text", "part"])
        for copy, (colour, side) in itertools.product(range(COPIES), itertools.product(COLOURS, SIDES)):
            picture = torch.randint(235, 256, (3, 32, 32), dtype=torch.uint8, generator=generator)
            picture[:, 8:24, SIDES[side]] = torch.tensor(COLOURS[colour], dtype=torch.uint8)[:, None, None]
            name = f"pictures/{colour}{side}{copy}.png"
            write_png(picture, str(folder / name))
            rows.writerow([name, f"{colour}的方块在{side}", "test" if copy == 0 else "train"])


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A folder in which t2i has been trained with two plugins."""
    folder = tmp_path_factory.mktemp("squares")
    draw_squares(folder)
    (folder / "recipe.toml").write_text(RECIPE)
    terminal = Terminal(folder, {"SKILLNET_PLUGINS": "text,image"})
    terminal.succeed("prepare", "table", "squares.csv", "--task", "t2i", "--split-column", "part")
    vocabulary = ["--modality", "text", "--from", "squares", "--size", "100", "--out", "text.txt"]
    terminal.succeed("prepare", "vocab", *vocabulary)
    terminal.succeed("finetune", "recipe.toml")
    return terminal


def test_two_plugins_are_listed(terminal: Terminal) -> None:
    rows = json.loads(terminal.succeed("plugins", "--json"))["plugins"]
    assert sorted(row["name"] for row in rows) == ["image", "text"]


def test_inspect_counts_the_two_skills(terminal: Terminal) -> None:
    printed = terminal.succeed("inspect")
    assert "skill:text" in printed and "skill:image" in printed and "sound" not in printed


def test_a_sentence_finds_its_square(terminal: Terminal) -> None:
    (result,) = json.loads(terminal.succeed("eval", "--task", "t2i", "--json"))["results"]
    assert result["items"] == len(COLOURS) * len(SIDES)
    assert result["metrics"]["recall@1"] >= 0.5


def test_pictures_are_embedded_and_found(terminal: Terminal) -> None:
    terminal.succeed("embed", "pictures", "--to", "collection")
    found = json.loads(terminal.succeed("search", "红色的方块在左边", "--in", "collection", "--top", "5", "--json"))
    assert len(found["hits"]) == 5
    assert all(hit["skill"] == "image" for hit in found["hits"])
    assert "红色" in found["hits"][0]["path"]


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "--task", "asr"],
        ["finetune", "recipe.toml", "--set", "finetune.tasks.asr={datasets=['squares'],batch=1}"],
        ["prepare", "table", "squares.csv", "--task", "asr"],
    ],
)
def test_asr_says_what_to_install(words: list[str], terminal: Terminal) -> None:
    assert "pip install skillnet-sound" in terminal.mistake(*words)


def test_transcribe_says_that_no_task_does(terminal: Terminal) -> None:
    (terminal.folder / "clip.wav").write_bytes(b"RIFF")
    assert "no task of the model transcribes" in terminal.mistake("transcribe", "clip.wav")
