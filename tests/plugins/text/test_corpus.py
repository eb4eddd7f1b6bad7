"""``text-corpus``: any encoding and compression, passages, cleaning, and each passage once."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.api import UserError
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.prepare.preparer import Preparation, Tolerance
from skillnet_cli.prepare.run import run
from skillnet_text import skillnet_datasets
from skillnet_text.datasets import corpus
from skillnet_text.datasets.cleaning import clean, split_long, why_unfit
from skillnet_text.datasets.corpus import Paragraph, TextCorpus, passages

DATASET = next(each for each in skillnet_datasets() if each.name == "text-corpus")
PACKS = os.environ.get("SKILLNET_TEST_PACKS")


def sentence(number: int) -> str:
    return f"这是第{number}个足够长的段落，它讲的是编号为{number}的一件小事，没有别的内容。"


def prepare(source: Path, out: Path, **more: Any) -> PreparedSet:
    options = {option.name: option.absent for option in DATASET.options} | more.pop("options", {})
    run(
        TextCorpus,
        Preparation(DATASET, (str(source),), out, options=options, tolerance=Tolerance(damaged=None), **more),
    )
    return PreparedSet.open(out)


def texts(made: PreparedSet) -> set[str]:
    return {sample["text"][0] for split in made.manifest.splits for sample in made.split(split)}


def test_files_of_every_kind_and_encoding_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    document = json.dumps({"title": "x", "text": f"{sentence(6)}\n短\n{sentence(7)}"}, ensure_ascii=False)
    files = {
        "a.txt": sentence(0).encode(),
        "b.txt": sentence(1).encode("gb18030"),
        "c.txt": sentence(2).encode("utf-16"),
        "d.txt.gz": gzip.compress(sentence(3).encode()),
        "e.txt.xz": lzma.compress(sentence(4).encode()),
        "f.txt.bz2": bz2.compress(sentence(5).encode()),
        "g.jsonl": f'{document}\n\n{{"no": 1}}\n[1]\n'.encode(),
        "h.txt.gz": gzip.compress("\n".join(map(sentence, [8, *range(100, 900)])).encode())[:-20],
        "i.txt": f"{sentence(10)}\n".encode() + "坏".encode()[:2] + f"\n{sentence(11)}".encode(),
        "j.png": b"no text",
        "k.txt": b"",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    made = prepare(folder, tmp_path / "set")
    assert texts(made) >= {sentence(number) for number in (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11)}
    damaged = {row.id: row.reason for row in read_ledger(made.path) if row.why == "damaged"}
    assert {id.split(":")[0] for id in damaged} == {"g.jsonl", "h.txt.gz", "i.txt"}
    assert damaged["g.jsonl:3"] == "it has no text, content, article" and "not a JSON object" in damaged["g.jsonl:4"]
    assert "not text in UTF-8" in damaged["i.txt:2"] and len(damaged) == 4
    assert sum(made.manifest.ledger.values()) == len(list(read_ledger(made.path)))
    wrong = prepare(folder / "b.txt", tmp_path / "declared", options={"encoding": "gbk"})
    assert texts(wrong) == {sentence(1)}


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_a_large_file_is_read_in_pieces_with_the_same_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    lines = [sentence(number % 150) for number in range(200)]
    (tmp_path / "one.txt").write_bytes("\n".join(lines).encode(encoding))
    whole = prepare(tmp_path / "one.txt", tmp_path / "whole")
    monkeypatch.setattr(corpus, "STEP", 1_000)
    pieces = prepare(tmp_path / "one.txt", tmp_path / "pieces")
    assert texts(pieces) == texts(whole) == set(lines)
    assert pieces.manifest.ledger == whole.manifest.ledger
    assert pieces.manifest.ledger["duplicate"] == 50 and pieces.manifest.ledger["kept"] == 150


def test_copies_but_for_punctuation_are_left_out_and_dev_is_held_out_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "DEV", 10)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.txt").write_text("\n".join(sentence(number) for number in range(300)))
    (raw / "b.txt").write_text("\n".join(sentence(number).replace("，", " ,") for number in range(300)))
    one = prepare(raw / "a.txt", tmp_path / "one")
    both = prepare(raw, tmp_path / "both")
    assert both.manifest.ledger["duplicate"] == both.manifest.ledger["kept"] == 300
    dev = {sample["text"][0] for sample in one.split("dev")}
    assert 10 < len(dev) < 60 and dev == {sample["text"][0] for sample in both.split("dev")}


def test_short_paragraphs_are_joined_within_their_document() -> None:
    made = list(passages([Paragraph("a", "短句"), Paragraph("b", "又一句", ends=True), Paragraph("c", "别的")], 5, 20))
    assert [(each.where, each.text) for each in made] == [("a", "短句\n又一句"), ("c", "别的")]
    made = list(
        passages([Paragraph("a", "短句"), Paragraph("b", damage="broken"), Paragraph("c", "一二三四五六")], 5, 20)
    )
    assert [(each.where, each.text, each.damage) for each in made] == [
        ("b", "", "broken"),
        ("a", "短句", None),
        ("c", "一二三四五六", None),
    ]


@given(st.lists(st.text("一二。 \n\u200bab<", max_size=60), max_size=12), st.integers(0, 9), st.integers(10, 30))
def test_no_text_is_lost_and_no_passage_too_long(given_: list[str], short: int, longest: int) -> None:
    made = list(passages([Paragraph(str(place), text) for place, text in enumerate(given_)], short, longest))
    assert all(0 <= len(each.text) <= longest for each in made)
    wanted = "".join("".join(clean(text).split()) for text in given_)
    assert "".join("".join(each.text.split()) for each in made) == wanted


@given(st.text("一。！ a", max_size=200), st.integers(1, 40))
def test_long_paragraphs_are_cut_at_sentences(text: str, longest: int) -> None:
    pieces = list(split_long(text, longest))
    assert "".join(pieces) == text and all(len(piece) <= longest for piece in pieces)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("<p class='x'>你好&amp;世界</p><!-- c -->", "你好&世界"),
        ("见 https://example.org/a?b=1 的说明", "见 的说明"),
        ("\ufeff你\u200b好\x07 \t\u3000世界！！！！！！", "你好 世界！！！"),
        ("a < b，b > a", "a < b，b > a"),
    ],
)
def test_cleaning(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (sentence(1), None),
        ("今天天气不错", "fewer than 8 Chinese"),
        ("这是一个例子而已吧 " + "some English words in a row here", "less than 30% of it is Chinese"),
        ("锟斤拷锟斤拷锟斤拷锟斤拷" + "\ufffd" * 5, "broken characters"),
        ("哈哈哈哈哈哈哈哈" * 6, "repeats itself"),
        ("\n".join("的一是在不了有和人这中大为上个国"), "a list"),
    ],
)
def test_rules(text: str, reason: str | None) -> None:
    found = why_unfit(text)
    assert found is None if reason is None else reason in str(found)


def test_a_source_without_texts(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "x.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"there is no \*\.txt or "):
        prepare(tmp_path / "raw", tmp_path / "set")


@pytest.mark.skipif(not PACKS, reason="SKILLNET_TEST_PACKS names no folder of real data")
def test_a_real_cookbook(tmp_path: Path) -> None:
    made = prepare(Path(str(PACKS)) / "text" / "howtocook.txt.gz", tmp_path / "set")
    assert made.manifest.ledger["damaged"] == 0 and made.manifest.ledger["kept"] > 5_000
    assert Counter(len(text) <= 480 for text in texts(made)).keys() == {True}
