"""Using a model: its options, files that go meanwhile, long recordings and texts."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from skillnet_cli.api import DamagedItem, UserError, Window
from skillnet_cli.inference.encoder import by_length, encode_sources
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry, resolve
from tests.inference.world import World

SPOKEN = b"abcabcuvwxyz"
WORDS = ["b", "ab", "abc" * 9, "xyz", "a" * 40, "cab", "q", "zz" * 14, "abcabc", "y"]


def _reader() -> Any:
    """The class that reads every file of the world's plugin."""
    return importlib.import_module("bytes_parts").BytesReader


@pytest.fixture
def trained(world: World) -> World:
    """A model, shapes and recordings in the folder ``in``, and prepared sets."""
    world.save_run()
    for name in ("pairs", "hums"):
        world.prepare(name)
    (world.folder / "in").mkdir()
    for number, word in enumerate(WORDS):
        (world.folder / "in" / f"{number}.shape").write_bytes(word.encode())
        (world.folder / "in" / f"{number}.hum").write_bytes(word.encode())
    return world


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items every pass through the model has had."""
    seen: list[int] = []

    def counting(name: str) -> None:
        real = getattr(SkillNet, name)

        def counted(self: SkillNet, which: str, given: Any, *rest: Any) -> Any:
            batch = given if name == "encode" else given[0][0]
            seen.append(len(batch["lengths"]))
            return real(self, which, given, *rest)

        monkeypatch.setattr(SkillNet, name, counted)

    counting("encode")
    counting("predict")
    monkeypatch.setattr("skillnet_cli.inference.encoder.LEAST_TOKENS", 0)  # no copies: each is an item
    return seen


def rounded(answer: Any) -> Any:
    """A loss is a sum over a batch, so its last digits depend on the batch."""
    for result in answer.get("results", ()):
        result["metrics"] = {name: round(value, 4) for name, value in result["metrics"].items()}
    return answer


@pytest.mark.parametrize(
    "line",
    [
        "classify b ab xyz cab q y zz b",
        "transcribe in",
        "eval --task find --split pairs",
        "eval --task kind --split pairs",
        "eval --task hear --split hums",
        "eval --task fill --split pairs",
    ],
)
def test_u14_the_batch_size_bounds_a_pass_and_changes_no_result(line: str, trained: World, forwards: list[int]) -> None:
    whole = rounded(trained.answer(*line.split()))
    assert max(forwards) > 3
    for size in (1, 3):
        forwards.clear()
        assert rounded(trained.answer(*line.split(), "--batch-size", str(size))) == whole
        assert max(forwards) == size, "or the option does nothing"


def test_u14_the_batch_size_changes_no_bit_of_a_collection(trained: World, forwards: list[int]) -> None:
    import lancedb

    found = []
    for size in ((), ("--batch-size", "1"), ("--batch-size", "4"), ("--batch-size", "1000")):
        forwards.clear()
        place = f"c{len(found)}"
        trained.skillnet("embed", "in", "pairs", "--to", place, *size)
        rows = lancedb.connect(trained.folder / place).open_table("items").to_arrow().sort_by("path")
        found.append((max(forwards), rows["path"].to_pylist(), rows["vector"].to_pylist()))
    assert found[1][0] == 1 and found[2][0] == 4 and found[3][0] > 10
    assert all(each[1:] == found[0][1:] for each in found) and len(found[0][1]) > 2 * len(WORDS)


@pytest.mark.parametrize("size", ["0", "-1", "many", str(1 << 40)])
def test_u14_a_batch_size_that_is_none_is_a_mistake(size: str, trained: World) -> None:
    assert "batch-size" in trained.skillnet("classify", "abc", "--batch-size", size, code=2)[1]


def test_u14_batches_of_a_size_hold_every_item_once_in_order_of_length() -> None:
    lengths = [5, 1, 4, 1, 3, 2, 2]
    items = list(enumerate(lengths))
    batches = list(by_length(iter(items), lambda item: item[1], size=3))
    assert list(map(len, batches)) == [3, 3, 1]
    assert [length for batch in batches for _, length in batch] == sorted(lengths)
    assert sorted(item for batch in batches for item in batch) == items


def test_u14_a_short_item_has_the_same_bits_alone(world: World) -> None:
    """Matrices of fewer than 16 rows are multiplied by another kernel, which adds in another order."""
    model, readers = world.model(hidden=256, heads=4, ffn=512)
    together = encode_sources(model, readers, "word", WORDS, precision="fp32").vectors
    for size in (1, 2, 3):
        assert torch.equal(
            encode_sources(model, readers, "word", WORDS, precision="fp32", batch_size=size).vectors, together
        )


def test_u14_mps_is_offered_where_torch_has_it(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no such device here, but cpu" in trained.skillnet("classify", "abc", "--device", "mps", code=2)[1]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert "but cpu, mps" in trained.skillnet("classify", "abc", "--device", "cuda:9", code=2)[1]


@pytest.mark.parametrize("error", [UserError("no such file: x"), FileNotFoundError(2, "No such file"), OSError("?")])
@pytest.mark.parametrize("suffix", ["shape", "hum"])
def test_s14_whatever_a_reader_says_of_a_file_that_has_gone_it_is_counted(
    suffix: str, error: Exception, trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = _reader().read

    def failing(self: Any, source: Any, rng: Any = None) -> Any:
        if source == trained.folder / "in" / f"3.{suffix}" or source == Path("in") / f"3.{suffix}":
            raise error
        return read(self, source, rng)

    def split(self: Any, path: Path) -> Iterator[Window]:
        yield Window(0.0, 1.0, self.read(path))

    monkeypatch.setattr(_reader(), "split", split)
    before = trained.answer("embed", "in", "--to", "before")
    monkeypatch.setattr(_reader(), "read", failing)
    answer = trained.answer("embed", "in", "--to", "c")
    (gone,) = answer["damaged"].keys() - before["damaged"].keys()
    assert gone.endswith(f"in/3.{suffix}")
    assert sum(answer["added"].values()) == sum(before["added"].values()) - 1 > len(WORDS)
    if suffix == "hum":
        printed, said = trained.skillnet("transcribe", "in", "--json", code=1)
        assert list(json.loads(printed)["damaged"]) == ["in/3.hum"] and "1 of 10 files could not be read" in said
        assert len(json.loads(printed)["transcripts"]) == len(WORDS) - 1


def test_s14_a_recording_that_goes_while_others_are_transcribed_is_counted(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = _reader().split

    def deleting(self: Any, path: Path) -> Iterator[Window]:
        (path.parent / "5.hum").unlink(missing_ok=True)
        return split(self, path)

    monkeypatch.setattr(_reader(), "split", deleting)
    printed, said = trained.skillnet("transcribe", "in", "--json", code=1)
    assert json.loads(printed)["damaged"] == {"in/5.hum": "cannot be read: No such file or directory"}
    assert "1 of 10 files could not be read" in said and len(json.loads(printed)["transcripts"]) == len(WORDS) - 1
    assert "in/5.hum" not in trained.skillnet("transcribe", "in")[1]


def test_s14_a_file_that_goes_while_others_are_classified_is_counted(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained.folder / "words"
    folder.mkdir()
    for number, word in enumerate(WORDS):
        (folder / f"{number}.word").write_text(word)
    read = _reader().read

    def deleting(self: Any, source: Any, rng: Any = None) -> Any:
        (folder / "7.word").unlink(missing_ok=True)
        return read(self, source, rng)

    monkeypatch.setattr(_reader(), "read", deleting)
    printed, said = trained.skillnet("classify", "words", "--json", code=1)
    assert list(json.loads(printed)["damaged"]) == ["words/7.word"] and "1 of 10 items" in said
    assert len(json.loads(printed)["items"]) == len(WORDS) - 1


@pytest.mark.parametrize("skill", ["text", "sound", "image", "video", "code"])
def test_s14_no_modality_has_words_of_its_own_for_a_file_that_has_gone(skill: str, tmp_path: Path) -> None:
    """For the sources of readers the path of nothing, of a folder, and of a named pipe, which would block."""
    import os

    load_registry.cache_clear()
    modality = load_registry().modality(skill)
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    settings = {"vocab": vocabulary} if modality.vocabularies else {}
    reader = resolve(modality.reader)(resolve(modality.config)(**settings), None)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("nothing", "folder", "pipe"):
        for read in (reader.read, lambda path: list(reader.split(path))):
            with pytest.raises(DamagedItem):
                read(tmp_path / f"{name}")
