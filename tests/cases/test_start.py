"""A model to start from brings its sizes and vocabularies, and what does not fit it is said with file, line and key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.model.build import embedder_config
from skillnet_cli.model.config import read_config
from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe import Recipe, load_recipe
from skillnet_cli.recipe.checks import read_source_checkpoint
from skillnet_text.vocabulary import SPECIAL_TOKENS
from tests.cases.test_model_files import MUTATIONS, altered, places
from tests.inference.world import World

OWN = """name = "own"
[train]
precision = "fp32"
workers = 0
[finetune]
start_from = "runs/small/model"
steps = 2
lr = 1e-3
[finetune.tasks.kind]
datasets = ["pairs"]
batch = 4
"""


@pytest.fixture
def trained(world: World) -> World:
    world.prepare("pairs")
    world.save_run()
    Path("own.toml").write_text(OWN)
    return world


def test_u13_a_recipe_without_model_takes_that_of_its_start(trained: World) -> None:
    trained.skillnet("recipes", "check", "own.toml")
    _, remarks = trained.skillnet("finetune", "own.toml")
    config = read_config(Path("runs/own/model"), load_registry())
    assert (config.layers, config.hidden, config.heads, config.ffn, config.activation) == (2, 16, 2, 32, "gelu")
    assert "which lacks" not in remarks
    shutil.rmtree("runs/small")  # a run that has begun needs it no more
    trained.skillnet("finetune", "own.toml")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("[train]", "[model]\nhidden = 32\nheads = 2\n[train]",
         "own.toml:3: model.hidden: is 32, and in the model to start from, runs/small/model, 16: leave the key out"),
        ("[train]", '[model]\nactivation = "quick_gelu"\n[train]', "own.toml:3: model.activation: is 'quick_gelu'"),
        ("[train]", "[model.embedders.word]\nlongest = 32\n[train]",
         "own.toml:3: model.embedders.word.longest: is 32, and in the model to start from, runs/small/model, 64"),
        ("small/model", "small/modl", "own.toml:6: finetune.start_from: there is no folder 'runs/small/modl'"),
        ("runs/small/model", "modl", "own.toml:6: finetune.start_from: there is no folder 'modl'"),
        ("small/model", "small", "own.toml:6: finetune.start_from: 'runs/small' is not a model's folder: its model is"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["recipes check own.toml", "finetune own.toml --plan", "finetune own.toml"])
def test_u13_what_does_not_fit_is_found_before_anything_runs(
    trained: World, old: str, new: str, place: str, verb: str
) -> None:
    Path("own.toml").write_text(OWN.replace(old, new))
    _, remarks = trained.skillnet(*verb.split(), code=2)
    assert place in remarks and "tensor" not in remarks, remarks


def test_u13_other_dropout_is_a_choice(trained: World) -> None:
    Path("own.toml").write_text(OWN.replace("[train]", "[model]\ndropout = 0.5\n[train]"))
    trained.skillnet("recipes", "check", "own.toml")


# With a vocabulary, as the plugins for text and code have one


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder as far as a recipe reads it."""
    monkeypatch.chdir(tmp_path)
    load_registry.cache_clear()
    facts = {"vocab": "/gone/vocab.txt", "vocab_size": 7, "max_length": 32, "segment_types": 2, "lowercase": False}
    skills = {"text": {"plugin": "skillnet-text", "version": "1", "embedder": facts}}
    sizes = {"layers": 1, "hidden": 8, "heads": 2, "ffn": 8, "norm": "post", "activation": "gelu"}
    (tmp_path / "start" / "assets" / "text").mkdir(parents=True)
    config = {"model_type": "skillnet", **sizes, "skills": skills, "tasks": {}}
    (tmp_path / "start" / "config.json").write_text(json.dumps(config))
    (tmp_path / "start" / "assets" / "text" / "vocab.txt").write_text("\n".join((*SPECIAL_TOKENS, "红", "色")) + "\n")
    return tmp_path / "start"


def loaded(model: str = "") -> Recipe:
    Path("text.toml").write_text(
        f'name = "text"\n{model}[finetune]\nstart_from = "start"\nsteps = 1\nlr = 1e-3\n'
        '[finetune.tasks.tc]\ndatasets = ["x"]\nbatch = 2\n'
    )
    return load_recipe(Path("text.toml"), registry=load_registry())


def test_u13_a_start_brings_its_vocabulary_and_its_other_keys(start: Path) -> None:
    recipe = loaded()
    text: dict[str, Any] = dict(recipe.model.embedders["text"])
    assert Path(text.pop("vocab")).resolve() == start / "assets" / "text" / "vocab.txt"
    assert text == {"vocab_size": 7, "max_length": 32, "segment_types": 2, "lowercase": False}
    assert (recipe.model.norm, recipe.model.layers) == ("post", 1)
    # What changes no tensor may be another.
    assert loaded("[model.embedders.text]\nword_dropout = 0.2\n").model.embedders["text"]["word_dropout"] == 0.2


def test_u13_another_vocabulary_is_no_vocabulary_of_the_start(start: Path) -> None:
    same = (start / "assets" / "text" / "vocab.txt").read_text()
    Path("same.txt").write_bytes(b"\xef\xbb\xbf" + same.replace("\n", "\r\n").encode())
    assert loaded('[model.embedders.text]\nvocab = "same.txt"\n').model.embedders["text"]["vocab"] == "same.txt"
    Path("other.txt").write_text(same.replace("红", "蓝"))
    with pytest.raises(UserError, match=r"text\.toml:3: model\.embedders\.text\.vocab: is another file than that of"):
        loaded('[model.embedders.text]\nvocab = "other.txt"\n')
    with pytest.raises(UserError, match=r"text\.toml:3: model\.embedders\.text\.max_length: is 64, and in the model"):
        loaded("[model.embedders.text]\nmax_length = 64\n")


@pytest.mark.parametrize("text", ["[" * 20_000, "3", "{}", '{"skills": {"text": 3}}', "\xff"])
def test_u13_a_damaged_start_is_one_line(start: Path, text: str) -> None:
    (start / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"text\.toml:3: finetune\.start_from: start/config\.json: damaged"):
        loaded()


# Paths and repositories


def test_u08_a_misspelt_path_is_not_looked_for_on_the_hub(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("skillnet_cli.model.hub.snapshot_download", asked)
    world.save_run()
    shutil.copytree("runs/small/model", "models/first")
    for typo, hint in (
        ("models/frist", "did you mean 'models/first'?"), ("model/first", "did you mean 'models'?"),
        ("runs/smal", "did you mean 'runs/small'?"), ("./first", "there is no such folder"),
        ("runs/small/modl", "there is no such folder"), ("modl", "there is no such folder"),
    ):  # fmt: skip
        for words in (("skills", "diff", "models/first", typo), ("search", "x", "--checkpoint", typo)):
            _, remarks = world.skillnet(*words, code=2)
            assert hint in remarks and "there is no such folder" in remarks, remarks
    with pytest.raises(AssertionError, match="the hub was asked"):
        world.skillnet("skills", "diff", "models/first", "hf:models/first")


SOURCES: dict[str, dict[str, Any]] = {
    "text": {"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 8, "hidden_act": "gelu"},
    "image": {"model_type": "clip", "vision_config": {"num_hidden_layers": 1, "patch_size": 16}},
    "sound": {"model_type": "wav2vec2", "conv_kernel": [10], "conv_stride": [5], "conv_dim": [512]},
}


@pytest.mark.parametrize("skill", SOURCES)
def test_s04_the_configuration_of_a_pretrained_model_is_data_as_well(
    skill: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_registry.cache_clear()
    registry = load_registry()
    embedder = embedder_config(skill, {}, registry)
    path = tmp_path / "config.json"
    for place in places(SOURCES[skill]):
        for value in (..., *MUTATIONS):
            path.write_text(altered(SOURCES[skill], place, value))
            try:
                read_source_checkpoint(tmp_path, skill, embedder, registry)
            except UserError as error:
                assert "\n" not in str(error), (place, value)
