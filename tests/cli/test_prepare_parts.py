"""``skillnet prepare`` of a set that is made in parts: its own options, shares, merging, and what is refused."""

from __future__ import annotations

import json

import pytest

from skillnet_cli.data.prepared import PreparedSet
from tests.cli.test_mistakes import complaint
from tests.inference.world import World

WORDS = [f"word{number}" for number in range(20)]


@pytest.fixture
def words(world: World) -> World:
    (world.folder / "words.txt").write_text("".join(f"{word}\n" for word in WORDS))
    return world


def test_a_sets_own_options_reach_its_preparer(words: World) -> None:
    given = ["--shout", "--repeat", "2", "--skip", "word3", "--skip", "word4"]
    said = words.skillnet("prepare", "parted", "--source", "words.txt", *given, "--workers", "1")[1]
    made = PreparedSet.open(words.data / "parted")
    assert [sample["word"] for sample in made.split("train")][:4] == [[f"WORD{n}"] * 2 for n in (0, 1, 2, 5)]
    choices = {"split": "official", "limit": None, "shout": True, "repeat": 2, "skip": ["word3", "word4"]}
    assert made.manifest.choices == choices
    assert "data/parted: 18 train (2 filtered left out)" in said and "filtered: 2 × … is skipped" in said


def test_options_are_shown_where_they_belong(words: World) -> None:
    assert "--shout" in words.skillnet("prepare", "parted", "--help")[0]
    assert "--shout" not in words.skillnet("prepare", "--help")[0]
    assert "--shout" not in words.skillnet("prepare", "pairs", "--help")[0]
    (listed,) = [each for each in words.answer("prepare", "--list")["datasets"] if each["name"] == "parted"]
    assert [option["name"] for option in listed["options"]] == ["shout", "repeat", "skip"]
    assert listed["plugin"] == "skillnet-bytes" and listed["protocols"] == ["official"]


def test_shares_are_merged_to_the_same_bytes(words: World) -> None:
    one = ["--source", "words.txt", "--workers", "1", "--repeat", "3"]
    words.skillnet("prepare", "parted", *one, "--out", "whole")
    for share in ("2/2", "1/2"):
        answer = words.answer("prepare", "parted", *one, "--shard", share)
        assert answer["sets"][0]["share"] == share
    (made,) = words.answer("prepare", "merge", "parted")["sets"]
    assert made["splits"] == {"train": 20}
    whole, merged = ({p.name: p.read_bytes() for p in (words.folder / f).iterdir()} for f in ("whole", "data/parted"))
    assert whole == merged
    assert json.loads(merged["manifest.json"])["choices"]["repeat"] == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("prepare parted", "parted is not fetched: write a file of words yourself, and name it with --source"),
        ("prepare parted --shuot", "No such option: --shuot"),
        ("prepare parted --repaet 2", "No such option: --repaet (Possible options: --repeat"),
        ("prepare parted --repeat two", "Invalid value for '--repeat'"),
        ("prepare pairs --shout", "No such option: --shout"),
        ("prepare pairs --shard 1/2", "--shard: pairs is made in one piece"),
        ("prepare pairs --max-damaged 5%", "--max-damaged: pairs is made in one piece"),
        ("prepare pairs --split paper", "--split paper: pairs cannot be divided so: it has only one division"),
        ("prepare parted --source words.txt --split paper", "its only division is 'official'"),
        ("prepare parted --source words.txt --url http://x/", "--url: parted has no published files"),
        ("prepare parted --source words.txt --shard 3/2", "--shard: '3/2' is not I/N with I from 1 to N"),
        ("prepare parted --source words.txt --max-damaged lots", "--max-damaged: 'lots' is not a share"),
        ("prepare parted --source nowhere.txt", "source 'nowhere.txt': no such file or folder"),
        ("prepare merge parted", "data/parted holds no parts to put together"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(words: World, line: str, said: str) -> None:
    assert said in complaint(words, *line.split())
    assert not words.data.exists()
