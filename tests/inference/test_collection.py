"""Collections keep one vector a path, find the nearest, and refuse what does not belong."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from skillnet_cli.api import UserError
from skillnet_cli.inference.collection import Collection, Entry, MadeBy

MODEL, OTHER = MadeBy("model", {"image": "a", "text": "b"}), MadeBy("other", {"image": "c", "text": "b"})


def entries(count: int, skill: str = "image") -> list[Entry]:
    return [Entry(f"{skill}-{number}", skill, "1") for number in range(count)]


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection.create(tmp_path / "c", MODEL, 8)


def test_the_nearest_come_first_with_their_cosines(collection: Collection) -> None:
    stored, asked = vectors(50), vectors(1, seed=1)[0]
    collection.put(entries(50), stored)
    hits = collection.search(asked, 7)
    scores, places = (stored @ asked).sort(descending=True)
    assert [hit.entry.path for hit in hits] == [f"image-{place}" for place in places[:7].tolist()]
    assert [hit.score for hit in hits] == pytest.approx(scores[:7].tolist(), abs=1e-5)


def test_a_search_may_be_for_some_skills(collection: Collection) -> None:
    collection.put([*entries(5), *entries(5, "it's")], vectors(10))
    assert {hit.entry.skill for hit in collection.search(vectors(1)[0], 10, ["it's"])} == {"it's"}
    assert len(collection.search(vectors(1)[0], 10, ["it's", "image"])) == 10
    assert collection.search(vectors(1)[0], 10, ["' OR '1'='1"]) == []


def test_the_same_path_is_replaced(collection: Collection) -> None:
    collection.put(entries(3), vectors(3))
    collection.put([Entry("image-1", "image", "2", "a text", "transcript")], vectors(1, seed=9))
    assert len(collection) == 3
    assert collection.stamps() == {"image-0": "1", "image-1": "2", "image-2": "1"}
    best = collection.search(vectors(1, seed=9)[0], 1)[0]
    assert best.entry == Entry("image-1", "image", "2", "a text", "transcript")


def test_it_is_there_after_it_was_closed(collection: Collection) -> None:
    collection.put(entries(3), vectors(3))
    assert len(Collection.open(collection.folder, MODEL)) == 3
    assert len(Collection.create(collection.folder, MODEL, 8)) == 3


def test_an_empty_one_answers_with_nothing(collection: Collection) -> None:
    collection.put([], vectors(0))
    assert collection.stamps() == {} and collection.search(vectors(1)[0], 3) == []


def test_many_stamps_are_all_read(collection: Collection) -> None:
    collection.put(entries(300), vectors(300))
    assert len(collection.stamps()) == 300


def test_vectors_of_another_model_are_refused(collection: Collection) -> None:
    collection.put(entries(3), vectors(3))
    for opening in (
        lambda: Collection.open(collection.folder, OTHER),
        lambda: Collection.create(collection.folder, OTHER, 8),
    ):
        with pytest.raises(UserError, match="other weights, settings or assets have made than those of this model"):
            opening()


def test_what_is_no_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a collection"):
        Collection.open(tmp_path / "nowhere", MODEL)
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match="already exists and is not a collection"):
            Collection.create(folder, MODEL, 8)


@pytest.mark.parametrize("damage", ["facts", "table"])
def test_a_damaged_one_is_named(collection: Collection, damage: str) -> None:
    if damage == "facts":
        (collection.folder / "collection.json").write_text("{")
    else:
        (collection.folder / "items.lance").rename(collection.folder / "elsewhere")
    with pytest.raises(UserError, match="is damaged"):
        Collection.open(collection.folder, MODEL)


def test_without_lancedb_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "lancedb":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install 'skillnet-cli\[search\]'"):
        Collection.create(tmp_path / "c", MODEL, 8)
    assert not (tmp_path / "c").exists()
