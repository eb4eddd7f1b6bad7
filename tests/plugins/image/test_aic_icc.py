"""``aic-icc`` in the publisher's layout: who is in which split, and what becomes of everything else."""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from skillnet_cli.api import UserError
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.data.verify import verify
from skillnet_cli.prepare.preparer import Preparation, Tolerance
from skillnet_cli.prepare.run import run
from skillnet_cli.sources.archives import FileTree
from skillnet_cli.sources.tables import read_list
from skillnet_image import skillnet_datasets
from skillnet_image.datasets import aic_icc
from skillnet_image.datasets.aic_icc import AicIcc, divided
from tests.plugins.image.broken import png_of_size
from tests.plugins.image.conftest import encode

DATASET = next(each for each in skillnet_datasets() if each.name == "aic-icc")
PACKS = os.environ.get("SKILLNET_TEST_PACKS")
DATES = {"train": "20170902", "validation": "20170910"}


def picture(number: int, format: str = "JPEG") -> bytes:
    return encode(Image.new("RGB", (40, 30), (number % 256, number // 256, 7)), format)


def entry(name: str, captions: Any = ("一张图片", "另一句话")) -> dict[str, Any]:
    return {"url": "", "image_id": name, "caption": captions}


def publish(folder: Path, split: str, entries: list[Any], pictures: dict[str, bytes]) -> None:
    """A zip as AI Challenger publishes it."""
    stem = f"ai_challenger_caption_{split}_{DATES[split]}"
    with zipfile.ZipFile(folder / f"{stem}.zip", "w") as archive:
        named = f"{stem}/caption_{split}_annotations_{DATES[split]}.json"
        archive.writestr(named, json.dumps(entries, ensure_ascii=False))
        for name, content in pictures.items():
            archive.writestr(f"{stem}/caption_{split}_images_{DATES[split]}/{name}", content)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Four sound pictures to train, nine for validation (one damaged, one missing), and much that is wrong."""
    folder = tmp_path / "published"
    folder.mkdir()
    sound = {f"{number}.jpg": picture(number) for number in range(4)}
    spoilt = {
        "empty.jpg": b"",
        "cut.jpg": picture(50)[:200],
        "text.jpg": b"not a picture",
        "bomb.jpg": png_of_size(60_000, 60_000),
        "mute.jpg": picture(51),
        "nobodys.jpg": picture(52),
    }
    really_png = {"png.jpg": picture(53, "PNG")}
    entries = [
        *(entry(name) for name in [*sound, *list(spoilt)[:4], "png.jpg"]),
        entry("mute.jpg", [" ", ""]),
        entry("missing.jpg"),
        entry("../../1.jpg"),
        entry("0.jpg"),
        {"caption": ["没有名字"]},
        "no object",
    ]
    publish(folder, "train", entries, {**sound, **spoilt, **really_png})
    validation = {f"{number}.jpg": picture(300 + number) for number in range(9) if number != 5}
    validation["1.jpg"] = b"damaged"
    publish(folder, "validation", [entry(f"{number}.jpg") for number in range(9)], validation)
    return folder


def prepare(source: Path | list[Path], out: Path, **more: Any) -> PreparedSet:
    sources = tuple(map(str, source if isinstance(source, list) else [source]))
    more = {"tolerance": Tolerance(damaged=None), **more}
    run(AicIcc, Preparation(DATASET, sources, out, **more))
    return PreparedSet.open(out)


def ids(made: PreparedSet, split: str) -> list[str]:
    return [sample["id"] for sample in made.split(split)]


def test_every_entry_and_every_picture_is_accounted_for(published: Path, tmp_path: Path) -> None:
    made = prepare(published, tmp_path / "set")
    assert ids(made, "train") == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "png.jpg"]
    first = made.split("train")[0]
    assert first["text"] == ["一张图片", "另一句话"] and first["image"] == picture(0)
    rows = [(row.id, row.why) for row in read_ledger(made.path) if row.split == "train" and row.why != "kept"]
    assert rows == [
        ("empty.jpg", "damaged"), ("cut.jpg", "damaged"), ("text.jpg", "damaged"), ("bomb.jpg", "damaged"),
        ("mute.jpg", "damaged"), ("missing.jpg", "unavailable"), ("../../1.jpg", "unavailable"),
        ("0.jpg", "duplicate"), ("train-000013", "damaged"), ("train-000014", "damaged"), ("nobodys.jpg", "filtered"),
    ]  # fmt: skip
    assert made.manifest.choices["split"] == "official" and len(made.split("validation")) == 7
    assert made.manifest.ledger["kept"] == 12
    assert not list(verify(made.path))


def test_the_papers_test_set_is_the_first_of_the_annotations(published: Path, tmp_path: Path) -> None:
    """Of nine annotations the first three, of which one is damaged: nobody takes its place."""
    made = prepare(published, tmp_path / "set", protocol="paper")
    assert ids(made, "test") == ["0.jpg", "2.jpg"]
    assert ids(made, "dev") == ["3.jpg", "4.jpg", "6.jpg", "7.jpg", "8.jpg"]


def test_a_validation_set_larger_than_the_papers_test_gives_it_whole(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(aic_icc.PAPER, "test", 5)
    made = prepare(published, tmp_path / "set")
    assert made.manifest.choices["split"] == "paper", "the default where the set is large enough"
    assert ids(made, "test") == ["0.jpg", "2.jpg", "3.jpg", "4.jpg"] and ids(made, "dev") == ["6.jpg", "7.jpg", "8.jpg"]


def test_sizes_of_the_papers_division() -> None:
    assert [divided(size) for size in (30_000, 10_001, 9_000, 624, 1, 0)] == [10_000, 10_000, 3_000, 208, 0, 0]


def test_folders_single_zips_and_processes_make_the_same(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in published.iterdir():
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "folder")
    whole = prepare(published, tmp_path / "a").manifest
    assert prepare(tmp_path / "folder", tmp_path / "b", workers=2).manifest.splits == whole.splits
    assert prepare(sorted(published.iterdir()), tmp_path / "c").manifest.splits == whole.splits


def test_made_small_on_demand(published: Path, tmp_path: Path) -> None:
    made = prepare(published, tmp_path / "set", options={"side": 16})
    assert {sample["image"][:2] for sample in made.split("train")} == {b"\xff\xd8"} and len(made.split("train")) == 5
    with pytest.raises(UserError, match="--side: 7 is not between 16 and 4096"):
        prepare(published, tmp_path / "other", options={"side": 7})


def test_a_trial_takes_some_of_every_split(published: Path, tmp_path: Path) -> None:
    made = prepare(published, tmp_path / "set", limit=2, protocol="paper")
    assert {split: facts.items for split, facts in made.manifest.splits.items()} == {"dev": 2, "test": 1, "train": 2}


@pytest.mark.parametrize(
    ("content", "said"), [(b"[{", "damaged, not JSON"), (b"{}", "not a JSON list"), (b"\xff\0", "not text|not JSON")]
)
def test_broken_annotations_are_one_line(published: Path, tmp_path: Path, content: bytes, said: str) -> None:
    with zipfile.ZipFile(published / "ai_challenger_caption_train_20170902.zip", "w") as archive:
        archive.writestr("caption_train_annotations_20170902.json", content)
    with pytest.raises(UserError, match=said):
        prepare(published, tmp_path / "set")


def test_half_of_the_set_is_named(published: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no caption_validation_annotations_\*.json in it"):
        prepare(published / "ai_challenger_caption_train_20170902.zip", tmp_path / "set")


@pytest.mark.soak
@pytest.mark.skipif(not PACKS, reason="SKILLNET_TEST_PACKS names no folder with aic-icc")
def test_the_pack(tmp_path: Path) -> None:
    source = Path(PACKS or "") / "aic-icc"
    made = prepare(source, tmp_path / "set", protocol="paper", workers=2, tolerance=Tolerance())
    assert not list(verify(made.path))
    sizes = {split: facts.items for split, facts in made.manifest.splits.items()}
    assert sizes == {"dev": 416, "test": 208, "train": 6767}
    assert made.manifest.ledger["kept"] == sum(made.manifest.ledger.values()) == 6767 + 624
    tree = FileTree([source], tmp_path)
    entries = read_list(tree.one("caption_validation_annotations_20170910.json"))
    assert ids(made, "test") + ids(made, "dev") == [each["image_id"] for each in entries]
    assert Counter(len(sample["text"]) for sample in made.split("test")) == Counter(
        len(each["caption"]) for each in entries[:208]
    )
