"""Skills listed, cut off, grafted on and compared from the command line."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from skillnet_cli.model import SkillNet
from tests.inference.world import World


@pytest.fixture
def trained(world: World) -> World:
    world.prepare("pairs")
    world.save_run()
    (world.folder / "a.hum").write_bytes(b"abcabc")
    return world


def test_skills_are_listed(trained: World) -> None:
    skills = {row["skill"]: row for row in trained.answer("skills", "list")["skills"]}
    assert set(skills) == {"word", "shape", "hum", "lone"}
    assert skills["word"]["plugin"] == "skillnet-bytes" and skills["word"]["installed"] == "1.0"
    assert skills["hum"]["tasks"] == ["hear"] and skills["hum"]["projections"] == 2 * (16 * 48 + 48)
    printed, _ = trained.skillnet("skills", "list")
    assert "hum    skillnet-bytes 1.0  0.002 M" in printed


def test_an_exported_part_does_the_same_work(trained: World) -> None:
    before = trained.answer("transcribe", "a.hum")["transcripts"]
    assert trained.answer("export", "--tasks", "hear", "--to", "listener") == {
        "from": "runs/small/model", "to": "listener", "skills": ["hum"], "tasks": ["hear"],
    }  # fmt: skip
    assert trained.answer("transcribe", "a.hum", "--checkpoint", "listener")["transcripts"] == before
    _, remarks = trained.skillnet("search", "x", "--checkpoint", "listener", "--in", "c", code=2)
    assert "c is not a collection" in remarks or "no contrastive task" in remarks
    _, remarks = trained.skillnet("export", "--skills", "word,shape", "--to", "searcher")
    assert "searcher: skills shape, word; tasks fill, find, kind" in remarks


def test_a_verb_opens_only_what_it_activates(trained: World) -> None:
    before = trained.answer("eval", "--task", "kind", "--split", "pairs")["results"]
    folder = trained.run / "model"
    for skill in ("shape", "hum", "lone"):
        for part in ("skill", "embedder"):
            (folder / f"model-{part}-{skill}.safetensors").unlink()
    assert trained.answer("eval", "--task", "kind", "--split", "pairs")["results"] == before
    _, remarks = trained.skillnet("transcribe", "a.hum", code=2)
    assert "hum.safetensors: the file is missing" in remarks


def test_a_cut_off_skill_is_grafted_on_again(trained: World) -> None:
    trained.skillnet("export", "--skills", "word,shape", "--to", "base")
    merged = trained.answer("skills", "graft", "hum", "--checkpoint", "base", "--from", "runs/small/model", "--to", "m")
    assert merged["skills"] == ["shape", "word", "hum"] and "hear" in merged["tasks"]
    assert trained.answer("transcribe", "a.hum", "--checkpoint", "m") | {"model": ""} == (
        trained.answer("transcribe", "a.hum") | {"model": ""}
    )
    parts = {part["part"]: part for part in trained.answer("skills", "diff", "runs/small/model", "m")["parts"]}
    assert all(
        part["equal"] == part["tensors"] for name, part in parts.items() if "lone" not in name and "guess" not in name
    )
    assert set(parts["skill:lone"]["only"].values()) == {"first"}
    printed, _ = trained.skillnet("skills", "diff", "base", "m")
    assert "skill:hum" in printed and "only in the second" in printed


def test_a_new_skill_starts_like_another(trained: World) -> None:
    trained.skillnet("export", "--skills", "word", "--to", "base")
    trained.skillnet("skills", "graft", "lone", "--like", "word", "--checkpoint", "base", "--to", "grown")
    state = SkillNet.from_pretrained("grown").state_dict()
    names = ["encoder.blocks.1.attention.skills.lone.weight", "encoder.blocks.1.attention.skills.word.weight"]
    assert torch.equal(*(state[name] for name in names))


def test_a_skill_of_another_shared_part_is_refused(trained: World) -> None:
    trained.skillnet("export", "--skills", "word", "--to", "base")
    model, readers = trained.model(seed=2)
    model.save(trained.folder / "other", readers)
    _, remarks = trained.skillnet(
        "skills", "graft", "hum", "--checkpoint", "base", "--from", "other", "--to", "m", code=2
    )
    assert "part 'shared' is not the same in base and other: tensor 'encoder." in remarks
    assert not Path("m").exists()


class Canary:
    def __reduce__(self) -> Any:
        return os.mkdir, ("canary",)


def test_damage_is_one_line_that_names_file_and_tensor(trained: World) -> None:
    folder = trained.run / "model"
    shared = folder / "model-shared.safetensors"
    content = shared.read_bytes()

    def said() -> str:
        printed, remarks = trained.skillnet("transcribe", "a.hum", code=2)
        (line,) = [line for line in remarks.splitlines() if not line.startswith("skillnet: using ")]
        assert printed == "" and line.startswith("skillnet: error: ")
        return line

    shared.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "model-shared.safetensors: tensor 'encoder." in said() and "was altered" in said()
    shared.write_bytes(pickle.dumps(Canary()))
    assert "model-shared.safetensors: damaged: " in said() and not Path("canary").exists()
    shared.rename(folder / "pytorch_model.bin")
    index = folder / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    for file, problem in (("pytorch_model.bin", "only safetensors files are read"), ("../x", "outside the folder")):
        weight_map = {name: file if held == shared.name else held for name, held in document["weight_map"].items()}
        index.write_text(json.dumps({**document, "weight_map": weight_map}))
        assert problem in said() and "tensor 'encoder." in said()
    assert not Path("canary").exists()
    (folder / "config.json").write_text((folder / "config.json").read_text().replace('"pre"', '"between"'))
    assert "config.json: norm: must be 'pre' or 'post', not 'between'" in said()


def test_the_card_of_a_run_has_its_results(trained: World) -> None:
    trained.skillnet("eval", "--task", "kind", "--split", "pairs")
    card = (trained.run / "model" / "README.md").read_text()
    assert re.search(r"\| kind \| pairs:test \| [0-9a-f]{16} \| 18 \| accuracy", card)
