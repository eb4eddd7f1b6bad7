"""``skillnet data verify|overlap|show``: what they print, their exit codes, and what is refused."""

from __future__ import annotations

import json

import pytest

from tests.cli.test_mistakes import complaint
from tests.inference.world import World


@pytest.fixture
def pairs(world: World) -> World:
    world.prepare("pairs")
    return world


def test_a_sound_set_is_said_to_be_sound(pairs: World) -> None:
    printed, _ = pairs.skillnet("data", "verify", "pairs")
    assert printed == "data/pairs: sound (18 test, 36 train)\n"
    assert pairs.answer("data", "verify", "data/pairs") == {"path": "data/pairs", "sound": True, "faults": []}


def test_each_fault_is_a_line_and_the_exit_code_is_1(pairs: World) -> None:
    (pairs.data / "pairs" / "ledger.jsonl").unlink()
    (pairs.data / "pairs" / "test-000000.tar").write_bytes(b"")
    printed, said = pairs.skillnet("data", "verify", "pairs", code=1)
    first, second, third = printed.splitlines()
    assert first.startswith("test-000000.tar: has 0 bytes") and third == "ledger.jsonl: is missing"
    assert second.startswith("test-000000.tar: item number 0: missing, and so are all after it")
    assert said == "skillnet: error: data/pairs: damaged in 3 places: prepare the set again\n"
    answer = json.loads(pairs.skillnet("data", "verify", "pairs", "--json", code=1)[0])
    assert not answer["sound"] and [fault["file"] for fault in answer["faults"]][2] == "ledger.jsonl"


def test_overlaps_of_splits_and_of_sets(pairs: World) -> None:
    pairs.skillnet("prepare", "pairs", "--out", "data/again")
    found = pairs.answer("data", "overlap", "pairs:train", "data/again:train")["overlaps"]
    assert {(each["left_items"], each["right_items"], each["left_size"]) for each in found} == {(36, 36, 36)}
    printed, said = pairs.skillnet("data", "overlap", "pairs", "again")
    assert "54 of 54 (100.00%)" in printed and "pairs and again" in said
    splits = pairs.answer("data", "overlap", "pairs", "again", "--splits")["overlaps"]
    assert len({(each["left"], each["right"]) for each in splits}) == 6


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("data sho", "No such command 'sho'. Did you mean 'show'?"),
        ("data verify pears", "no prepared set 'pears' in data: did you mean 'pairs'?"),
        ("data show pairs --split dev", "set 'pairs' has no split 'dev': it has test, train"),
        ("data show pairs --html nowhere/page.html", "--html nowhere/page.html: the folder nowhere does not exist"),
        ("data overlap pairs:train", "1 parts to compare: give two sets, or one that has several splits"),
        ("data overlap pairs:dev", "set 'pairs' has no split 'dev'"),
        ("data overlap pairs pears:train", "no prepared set 'pears'"),
        ("data overlap pairs --fields x", "--fields: no field 'x' of media or texts"),
    ],
)
def test_mistakes_are_one_line(pairs: World, line: str, said: str) -> None:
    assert said in complaint(pairs, *line.split())
