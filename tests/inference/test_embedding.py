"""Files and sets enter a collection once, by what the model's tasks have taught it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from skillnet_cli.api import Reader, UserError
from skillnet_cli.inference.capabilities import Capabilities
from skillnet_cli.inference.collection import Collection, CollectionWriter, MadeBy
from skillnet_cli.inference.encoder import encode_sources
from skillnet_cli.inference.inputs import Query, gather
from skillnet_cli.model import SkillNet
from skillnet_cli.plugins import load_registry
from tests.inference.world import World


@pytest.fixture
def files(world: World) -> Path:
    folder = world.folder / "files"
    (folder / "deep").mkdir(parents=True)
    contents = {"one.shape": b"abc", "deep/two.SHAPE": b"xyz", "bad.shape": b"!", "say.hum": b"abcabc", "no.hum": b"!"}
    contents |= {"alone.lone": b"abc", "notes.pdf": b"?", ".hidden.shape": b"abc", "text.word": "词".encode()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def add(world: World, *what: str, **sizes: Any) -> tuple[CollectionWriter, Collection]:
    model, readers = world.model(**sizes)
    capabilities = Capabilities(model.config, load_registry())
    collection = Collection.create(world.folder / "c", MadeBy("model", {}), 16)
    writer = CollectionWriter(collection, model, readers, capabilities)
    list(writer.add(gather(what, capabilities, load_registry(), [world.data])))
    return writer, collection


def embed(query: str, model: SkillNet, readers: Mapping[str, Reader]) -> tuple[str, torch.Tensor]:
    capabilities = Capabilities(model.config, load_registry())
    return Query.parse(query, capabilities, load_registry()).embed(model, readers, capabilities)


def test_what_the_tasks_teach(world: World) -> None:
    capabilities = Capabilities(world.model()[0].config, load_registry())
    assert capabilities.embeddable == ("word", "shape") and capabilities.query_skill == "word"
    routes = [capabilities.route_of(skill) for skill in ("word", "shape", "hum", "lone")]
    assert routes == ["content", "content", "transcript", None]
    assert capabilities.untrained_pairs("shape", ["word", "shape"]) == []
    assert capabilities.untrained_pairs("word", ["hum", "word"]) == ["hum"]


def test_files_are_embedded_refused_or_damaged(world: World, files: Path) -> None:
    writer, collection = add(world, str(files))
    assert writer.added == {"shape": 2, "hum": 1, "word": 1} and writer.refused == {"lone": 1}
    assert {Path(path).name for path in writer.damaged} == {"bad.shape", "no.hum"}
    assert len(collection) == 4


def test_a_recording_stands_by_the_text_of_its_transcript(world: World, files: Path) -> None:
    _, collection = add(world, str(files))
    model, readers = world.model()
    (entry,) = [hit.entry for hit in collection.search(torch.ones(16), 9, ["hum"])]
    assert entry.by == "transcript" and entry.text
    vector = encode_sources(model, readers, "word", [entry.text]).vectors[0]
    assert collection.search(vector, 9, ["hum"])[0].score == pytest.approx(1, abs=1e-3)


def test_again_only_what_changed_is_embedded(world: World, files: Path) -> None:
    add(world, str(files))
    (files / "one.shape").write_bytes(b"other")
    writer, collection = add(world, str(files))
    assert writer.added == {"shape": 1} and writer.reused == {"shape": 1, "hum": 1, "word": 1}
    assert len(collection) == 4


def test_a_set_enters_by_what_is_searched_for(world: World) -> None:
    world.prepare("pairs")
    writer, collection = add(world, "pairs")
    assert writer.added == {"shape": 17} and list(writer.damaged) == ["pairs:test#au-0"]
    model, readers = world.model()
    vector = encode_sources(model, readers, "shape", [b"bwbwbw"]).vectors[0]
    hit = collection.search(vector, 1)[0]
    assert hit.entry.path.startswith("pairs:test#bw-") and hit.entry.text == "bw"
    writer, collection = add(world, "pairs:train", str(world.data / "pairs"))
    assert writer.added == {"shape": 35} and writer.reused == {"shape": 17}


def test_a_set_of_recordings_enters_by_transcripts(world: World) -> None:
    world.prepare("hums")
    writer, _ = add(world, "hums")
    assert writer.added["hum"] + len(writer.damaged) == 6 and writer.added["hum"] > 0


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (["nowhere.shape"], "'nowhere.shape' is neither a file nor a folder, and there is no prepared set"),
        (["empty"], "nothing to embed in empty: no file ends in .word .shape"),
        (
            ["files/alone.lone"],
            "no contrastive task of the model trained lone, and none transcribes it; it embeds word",
        ),
        (["pairs:dev"], "set 'pairs' has no split 'dev'"),
    ],
)
def test_nothing_to_embed_is_said_before_anything_is_made(
    world: World, files: Path, what: list[str], reason: str
) -> None:
    world.prepare("pairs")
    (world.folder / "empty").mkdir()
    capabilities = Capabilities(world.model()[0].config, load_registry())
    with pytest.raises(UserError, match=reason):
        gather(what, capabilities, load_registry(), [world.data])


def test_queries_are_texts_or_files(world: World, files: Path) -> None:
    model, readers = world.model()
    ask = partial(embed, model=model, readers=readers)
    skill, vector = ask("红色的汽车")
    assert skill == "word" and vector.shape == (16,)
    assert ask(str(files / "one.shape"))[0] == "shape"
    assert ask(str(files / "say.hum"))[0] == "word"
    assert ask("long " * 2_000)[0] == ask("null \0 byte")[0] == "word"
    with pytest.raises(UserError, match="empty"):
        ask("")
    for name, kind in (("alone.lone", "lone"), ("notes.pdf", "files ending in '.pdf'")):
        with pytest.raises(UserError, match=f"the model does not embed {kind}; it embeds word, shape"):
            ask(str(files / name))


def test_separate_tasks_embed_with_the_one_that_has_vectors(world: World, files: Path) -> None:
    writer, _ = add(world, str(files), routing="separate")
    assert writer.added == {"shape": 2, "hum": 1, "word": 1}
    model, readers = world.model(routing="separate")
    _, vector = embed("abc", model, readers)
    towers = model.towers_of("find")
    expected = model.encode("word", readers["word"].collate([readers["word"].read("abc")]), "find")[0]
    torch.testing.assert_close(vector, expected.detach(), rtol=0, atol=1e-2)
    with torch.no_grad():
        towers[0].encoder.final_norm.weight.zero_()  # the tower that reads words
    assert not torch.equal(embed("abc", model, readers)[1], vector)


@pytest.mark.parametrize("routing", ["skill", "dense", "moe", "separate"])
def test_what_is_needed_is_enough(world: World, routing: str) -> None:
    """Of a saved model of any routing, the skills and tasks that are needed give the whole model's vectors."""
    model, readers = world.model(routing=routing)
    model.save(world.folder / "saved", readers)
    capabilities = Capabilities(model.config, load_registry())
    skills, tasks = capabilities.needed_for(["shape"])
    part = SkillNet.from_pretrained(world.folder / "saved", skills=skills, tasks=tasks)
    assert set(part.config.tasks) <= {"find"} and "hum" not in part.config.skills
    task = capabilities.vector_task
    whole, alone = (encode_sources(each, readers, "shape", [b"abc"], task).vectors for each in (model, part))
    assert torch.equal(whole, alone)


def test_separate_tasks_with_vectors_of_their_own_are_one_line(world: World) -> None:
    model, readers = world.model(routing="separate")
    model.config.tasks = {**model.config.tasks, "again": model.config.tasks["find"] | {"name": "again"}}
    with pytest.raises(
        UserError, match=r"^the tasks of this model are separate, so find, again have no vectors in common"
    ):
        embed("abc", model, readers)
    assert len(encode_sources(model, readers, "shape", [b"abc"], "find").vectors) == 1
