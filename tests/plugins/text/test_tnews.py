"""``tnews`` as published: every line is an item, and the labels are the 15 of CLUE."""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.data.verify import verify
from skillnet_cli.prepare.preparer import Preparation
from skillnet_cli.prepare.run import run
from skillnet_text import skillnet_datasets
from skillnet_text.datasets.tnews import CLASSES, Tnews

DATASET = next(each for each in skillnet_datasets() if each.name == "tnews")
PACKS = os.environ.get("SKILLNET_TEST_PACKS")

TRAIN = [
    json.dumps({"label": "108", "label_desc": "news_edu", "sentence": "老师怎么看？", "keywords": ""}),
    json.dumps({"label": "104", "sentence": "公告"}),
    "{broken",
    json.dumps({"label": "105", "sentence": "no such label"}),
    json.dumps({"label": "104", "sentence": " "}),
    json.dumps({"label": "104", "sentence": "公告"}),
]
DEV = [json.dumps({"label": 116, "sentence": "公告"})]
TEST = [json.dumps({"id": 0, "sentence": "没有标签"})]


def prepare(source: Path, out: Path, **more: object) -> PreparedSet:
    run(Tnews, Preparation(DATASET, (str(source),), out, **more))  # type: ignore[arg-type]
    return PreparedSet.open(out)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "tnews_public.zip", "w") as archive:
        for name, lines in (("train", TRAIN), ("dev", DEV), ("test", TEST), ("labels", [])):
            archive.writestr(f"tnews_public/{name}.json", "".join(f"{line}\n" for line in lines))
    return tmp_path / "tnews_public.zip"


def test_every_line_is_an_item_or_a_row_of_the_ledger(published: Path, tmp_path: Path) -> None:
    made = prepare(published, tmp_path / "set", tolerance=tolerant())
    train = [(sample["id"], sample["text"], sample["label"]) for sample in made.split("train")]
    assert train == [
        ("train-000001", ["老师怎么看？"], "news_edu"),
        ("train-000002", ["公告"], "news_finance"),
        ("train-000006", ["公告"], "news_finance"),
    ], "copies stay, as published"
    assert made.split("dev")[0]["label"] == "news_game"
    assert made.split("test")[0] == {"id": "test-000001", "text": ["没有标签"]}
    assert made.manifest.splits["test"].fields == ("text",)
    assert made.manifest.targets == {"label": list(CLASSES.values())} and len(CLASSES) == 15
    assert made.manifest.choices["split"] == "official", "a small set is none of the paper's size"
    assert [row.reason for row in read_ledger(made.path) if row.why == "damaged"] == [
        "line 3 is not JSON", "'105' is not in the list of 15 labels", "it has no sentence",
    ]  # fmt: skip


def test_a_folder_is_as_good_as_the_zip(published: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(published) as archive:
        archive.extractall(tmp_path / "folder")
    sets = [
        prepare(source, tmp_path / name, tolerance=tolerant())
        for name, source in (("a", published), ("b", tmp_path / "folder"))
    ]
    assert sets[0].manifest.splits == sets[1].manifest.splits


def test_without_any_part_it_is_said_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "labels.json").write_text(DEV[0])
    with pytest.raises(UserError, match=r"folder: there is no train.json or dev.json or test.json"):
        prepare(tmp_path / "folder", tmp_path / "set")


def tolerant() -> object:
    from skillnet_cli.prepare.preparer import Tolerance

    return Tolerance(damaged=0.5)


@pytest.mark.skipif(not PACKS, reason="SKILLNET_TEST_PACKS names no folder with tnews/tnews_public.zip")
def test_the_published_set(tmp_path: Path) -> None:
    source = Path(PACKS or "") / "tnews" / "tnews_public.zip"
    made = prepare(source, tmp_path / "set", workers=2)
    assert not list(verify(made.path))
    assert {split: facts.items for split, facts in made.manifest.splits.items()} == {"dev": 4450, "train": 53360}
    with zipfile.ZipFile(source) as archive:
        rows = [json.loads(line) for line in archive.read("train.json").decode().splitlines()]
    split = made.split("train")
    assert [split[place]["text"][0] for place in range(0, 53360, 997)] == [row["sentence"] for row in rows[::997]]
    dev = Counter(sample["label"] for sample in made.split("dev"))
    assert set(dev) == set(CLASSES.values())
    assert made.manifest.ledger["kept"] == 57810 == sum(made.manifest.ledger.values())
