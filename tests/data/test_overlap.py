"""Planted leaks are found, all of them and no others, however little memory is used."""

from __future__ import annotations

import itertools
import random
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.data.overlap import Part, find_overlaps, kinds_to_compare
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.prepare.writer import SetWriter

Items = Sequence[tuple[bytes, list[str]]]
FIELDS = {"image": True, "text": False}


def make(folder: Path, splits: Mapping[str, Items]) -> PreparedSet:
    with SetWriter(folder, name=folder.name, licence="MIT", shard_items=7) as writer:
        for split, items in splits.items():
            for number, (picture, texts) in enumerate(items):
                fields = {"text": texts, "label": "same", "notes": ["same"]}
                writer.keep(split, f"{split} {number}", fields, {"image": (picture, ".png")})
        writer.finish({"label": ["same"]})
    return PreparedSet.open(folder)


def everything(*sets: PreparedSet) -> list[Part]:
    return [part for each in sets for part in Part.all_of(each, each.path.name, apart=True)]


def test_planted_leaks_are_found_in_every_form(tmp_path: Path) -> None:
    train = [(bytes([number]), [f"第{number}句", f"文{number}"]) for number in range(20)]
    test = [(b"new", ["新的"]), (bytes([3]), ["another"]), (b"new 2", ["其他", "第5句"]), (b"new 3", ["ＡＢ c"])]
    train.append((b"last", ["ab C"]))
    found = find_overlaps(everything(make(tmp_path / "set", {"train": train, "test": test})), FIELDS)
    rows = {each.form: (each.left, each.left_items, each.right_items, each.examples) for each in found}
    assert rows == {
        "bytes": ("set:test", 1, 1, (("test 1", "train 3"),)),
        "text": ("set:test", 1, 1, (("test 2", "train 5"),)),
        "normal": ("set:test", 2, 2, (("test 2", "train 5"), ("test 3", "train 20"))),
    }
    assert {(each.left_size, each.right_size) for each in found} == {(4, 21)}


def normal(text: str) -> str:
    """Without case, width and white space."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def forms(part: Part, form: str) -> list[set[Any]]:
    """What brute force compares: for each item its contents."""
    items = list(part)
    if form == "bytes":
        return [{item["image"]} for item in items]
    return [{normal(text) if form == "normal" else text for text in item["text"]} for item in items]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("at_once", [1, 40, 10**6])
def test_it_agrees_with_brute_force(tmp_path: Path, seed: int, at_once: int) -> None:
    draw = random.Random(seed)

    def some(count: int) -> Items:
        words = ["a", "A", "a ", "甲", "乙", "甲 乙", "甲乙", "Ａ"]
        return [(bytes([draw.randrange(60)]), draw.choices(words, k=draw.randrange(1, 3))) for _ in range(count)]

    sets = [make(tmp_path / name, {"train": some(25), "dev": some(9)}) for name in ("one", "two")]
    parts = everything(*sets)
    found = find_overlaps(parts, FIELDS, at_once=at_once)
    assert len(found) == 6 * 3
    for each, ((left, right), form) in zip(
        found, itertools.product(itertools.combinations(parts, 2), ("bytes", "text", "normal")), strict=True
    ):
        here, there = forms(left, form), forms(right, form)
        assert (each.left, each.right, each.form) == (left.name, right.name, form)
        assert each.left_items == sum(any(item & other for other in there) for item in here)
        assert each.right_items == sum(any(item & other for other in here) for item in there)
        assert bool(each.examples) == bool(each.left_items)


def test_sets_as_a_whole_name_the_splits_of_examples(tmp_path: Path) -> None:
    one = make(tmp_path / "one", {"dev": [(b"x", ["x"])], "train": [(b"y", ["y"])]})
    two = make(tmp_path / "two", {"dev": [(b"z", ["z"])], "train": [(b"y", ["q"])]})
    (found,) = find_overlaps([*Part.all_of(one, "a"), *Part.all_of(two, "b")], {"image": True})
    assert (found.left, found.right, found.examples) == ("a", "b", (("train: train 0", "train: train 0"),))
    assert [part.name for part in Part.all_of(one, "a", "dev")] == ["a:dev"]


def test_labels_and_notes_are_not_compared_unless_asked_for(tmp_path: Path) -> None:
    made = make(tmp_path / "set", {"train": [(b"x", ["x"])]})
    assert kinds_to_compare([made], ["text", "image"], []) == FIELDS
    assert kinds_to_compare([made], [], ["notes"]) == {"notes": False}
    with pytest.raises(UserError, match="no field 'nots' of media or texts: there are image, label, notes, text"):
        kinds_to_compare([made], [], ["nots"])


def test_one_part_cannot_be_compared(tmp_path: Path) -> None:
    made = make(tmp_path / "set", {"train": [(b"x", ["x"])]})
    with pytest.raises(UserError, match="give two sets, or one that has several splits"):
        find_overlaps(everything(made), FIELDS)


def test_the_normal_form_keeps_what_matters(tmp_path: Path) -> None:
    left = make(tmp_path / "left", {"train": [(b"x", [text]) for text in (" Ｈｅｌｌｏ，\t世界　！\n", "你好", "a-b")]})
    right = make(tmp_path / "right", {"train": [(b"y", [text]) for text in ("hello,世界!", "您好", "ab")]})
    (_, found) = find_overlaps([*Part.all_of(left, "left"), *Part.all_of(right, "right")], {"text": False})
    assert (found.form, found.left_items, found.examples) == ("normal", 1, (("train 0", "train 0"),))
