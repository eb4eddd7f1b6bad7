"""A collection takes the vectors of every model that makes the same ones, and of no other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from skillnet_cli.inference.capabilities import Capabilities
from skillnet_cli.model import SkillNet
from skillnet_cli.model.checkpoint import INDEX, checksums_by_part
from skillnet_cli.model.config import read_config
from skillnet_cli.plugins import load_registry
from tests.inference.world import World


@pytest.fixture
def searched(world: World) -> World:
    """A model, and the collection ``c`` of its shapes and hums."""
    world.prepare("pairs")
    world.save_run()
    (world.folder / "a.hum").write_bytes(b"abcabc")
    (world.folder / "shapes").mkdir()
    for number in range(9):
        (world.folder / "shapes" / f"{number}.shape").write_bytes(bytes([97 + number]) * (number + 1))
    world.skillnet("embed", "shapes", "a.hum", "--to", "c")
    return world


def changed(world: World, folder: str, *parts: str) -> str:
    """A copy of the model in which the parameters of some parts are others."""
    model = SkillNet.from_pretrained("runs/small/model", registry=load_registry())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in parts):
                parameter.copy_(parameter + 0.5)
    model.save_pretrained(world.folder / folder)
    return folder


def hits(world: World, model: str, query: str = "aw") -> Sequence[tuple[str, float]]:
    found = world.answer("search", query, "--in", "c", "--checkpoint", model)["hits"]
    return [(hit["path"], hit["score"]) for hit in found]


def test_b16_exported_and_grafted_models_search_and_add_to_a_collection(searched: World) -> None:
    expected = hits(searched, "runs/small/model")
    searched.skillnet("export", "--tasks", "find", "--to", "part")
    searched.skillnet("export", "--skills", "word,shape,hum", "--to", "base")
    searched.skillnet("skills", "graft", "lone", "--checkpoint", "base", "--to", "grown")
    searched.skillnet("skills", "graft", "lone", "--checkpoint", "base", "--from", "runs/small/model", "--to", "merged")
    # Trained on with all that makes vectors frozen: other heads, and a skill that has no items here.
    trained = changed(searched, "trained", "heads.kind", "lone")
    for model in ("part", "base", "grown", "merged", trained):
        assert hits(searched, model) == expected, model
        answer = searched.answer("embed", "shapes", "--to", "c", "--checkpoint", model)
        assert answer["added"] == {} and answer["reused"] == {"shape": 9}, model


@pytest.mark.parametrize("part", ["blocks.0.feed_forward", "final_norm", "embedders.shape", "skills.shape"])
def test_b16_a_model_of_which_another_part_made_the_vectors_is_refused(searched: World, part: str) -> None:
    model = changed(searched, "other", part)
    for words in (("search", "aw", "--in", "c"), ("embed", "shapes", "--to", "c")):
        _, remarks = searched.skillnet(*words, "--checkpoint", model, code=2)
        assert "skillnet: error: collection c holds vectors of " in remarks and "shape" in remarks
        assert "other weights, settings or assets" in remarks


def test_b16_settings_and_assets_count_as_weights_do(searched: World) -> None:
    shutil.copytree("runs/small/model", "gelu")
    path, index = Path("gelu/config.json"), Path("gelu", INDEX)
    path.write_text(json.dumps({**json.loads(path.read_text()), "activation": "quick_gelu"}))
    document = json.loads(index.read_text())
    del document["metadata"]["config"]  # as older models are, which can be changed unnoticed
    index.write_text(json.dumps(document))
    shutil.copytree("runs/small/model", "assets")
    Path("assets/assets/shape/letters.txt").write_text("257")
    for model in ("gelu", "assets"):
        assert "holds vectors of" in searched.skillnet("search", "aw", "--in", "c", "--checkpoint", model, code=2)[1]


def test_b16_transcripts_belong_to_what_heard_them_and_what_reads_them(searched: World) -> None:
    hear = changed(searched, "hear", "heads.hear")
    assert "vectors of hum" in searched.skillnet("search", "aw", "--in", "c", "--checkpoint", hear, code=2)[1]
    word = changed(searched, "word", "embedders.word")
    assert "vectors of hum" in searched.skillnet("search", "aw", "--in", "c", "--checkpoint", word, code=2)[1]


def test_b16_a_skill_without_items_may_have_changed(searched: World) -> None:
    searched.skillnet("embed", "shapes", "--to", "d")
    word = changed(searched, "word", "embedders.word")
    expected = searched.answer("embed", "shapes", "--to", "e", "--checkpoint", word)["items"]
    own = searched.answer("search", "aw", "--in", "e", "--checkpoint", word)["hits"]
    assert searched.answer("search", "aw", "--in", "d", "--checkpoint", word)["hits"] == own and expected == 9
    # Words that it adds are its own from then on, and the first model's no longer.
    (searched.folder / "a.word").write_text("aw")
    searched.skillnet("embed", "a.word", "--to", "d", "--checkpoint", word)
    assert "vectors of word" in searched.skillnet("search", "aw", "--in", "d", code=2)[1]
    assert searched.answer("search", "aw", "--in", "d", "--checkpoint", word)["hits"]


def test_b16_a_collection_of_an_earlier_version_is_its_models_alone(searched: World) -> None:
    path = Path("c/collection.json")
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({"model": facts["model"], "hidden": facts["hidden"]}))
    searched.skillnet("export", "--tasks", "find", "--to", "part")
    assert len(hits(searched, "runs/small/model")) == 10
    assert "embed the items again" in searched.skillnet("search", "aw", "--in", "c", "--checkpoint", "part", code=2)[1]
    path.write_text('{"model": 1, "hidden": "x"}')
    assert "collection.json is damaged (model: " in searched.skillnet("search", "aw", "--in", "c", code=2)[1]


def test_b16_parts_have_the_same_checksums_without_an_index(searched: World) -> None:
    from huggingface_hub import save_torch_model

    model = SkillNet.from_pretrained("runs/small/model", registry=load_registry())
    shutil.copytree("runs/small/model", "plain", ignore=shutil.ignore_patterns("*.safetensors*"))
    save_torch_model(model, "plain")
    assert not Path("plain", INDEX).exists()
    assert checksums_by_part(Path("plain")) == checksums_by_part(Path("runs/small/model"))


def test_b16_separate_models_go_by_the_task_that_compares(searched: World) -> None:
    model, readers = searched.model(routing="separate")
    model.save(searched.folder / "apart", readers)
    config = read_config(Path("apart"), load_registry())
    checksums = Capabilities(config, load_registry()).checksums(checksums_by_part(Path("apart")))
    assert set(checksums) == {"word", "shape", "hum"}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("tasks.kind"):
                parameter.add_(1)
    model.save(searched.folder / "other")
    assert Capabilities(config, load_registry()).checksums(checksums_by_part(Path("other"))) == checksums
