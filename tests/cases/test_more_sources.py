"""Sources of other kinds: addresses in tables, data sets as hubs and the web publish them, dumps of Wikipedia."""

from __future__ import annotations

import bz2
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from skillnet_cli.cli.app import run
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_text.datasets.wikipedia import plain


def test_f04_an_address_in_a_table_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing may be asked for")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    Image.new("RGB", (32, 32), "red").save(tmp_path / "here.png")
    addresses = ["https://example.org/a//b.jpg", " HTTP://example.org/c.jpg", "s3://bucket/d.jpg", "file:///e.jpg"]
    rows = ["image,text", "here.png,红色", *(f"{each},图" for each in addresses)]
    (tmp_path / "t.csv").write_text("\n".join(rows), encoding="utf-8")
    command = ["prepare", "table", str(tmp_path / "t.csv"), "--task", "t2i", "--shares", "train=1"]
    assert run([*command, "--out", str(tmp_path / "set")]) == 0
    assert "4 of 5 files are addresses" in capsys.readouterr().err
    ledger = {row.id: (row.why, row.reason) for row in read_ledger(tmp_path / "set")}
    assert ledger.pop("here.png")[0] == "kept" and set(ledger) == {*addresses}
    for why, reason in ledger.values():
        assert why == "unavailable" and reason.startswith("it is an address") and "fetch them first" in reason
    assert len(list(PreparedSet.open(tmp_path / "set").split("train"))) == 1


ARTICLE = """{{Infobox|name={{lang|en|Red}}|x={{{1|}}}
|}}<!-- [[x]] -->'''红色'''（{{lang-en|red}}，）是[[光谱|可见光]]的[[颜色]]<ref name=a>{{cite|书}}</ref>，波长最长。
<ref name="b" />
[[File:Red.jpg|thumb|一张[[红色]]的图]]
{| class="wikitable"
|-
| 单元格 || {{a|b}}
|}
== 历史 ==
* 古人用[https://example.org/a 朱砂]与<nowiki>[[赭石]]</nowiki>作-{zh-hans:颜料;zh-hant:顏料}-，''至今''如此。
<math>x^2</math>以后的人用化学方法得到它，&amp;quot;便宜&amp;quot;得多。 {{没有结束
[[Category:颜色]][[en:Red]]__NOTOC__"""
SHOWN = [
    "红色是可见光的颜色，波长最长。",
    "古人用朱砂与[[赭石]]作颜料，至今如此。",
    '以后的人用化学方法得到它，"便宜"得多。 没有结束',
]


def page(title: str, text: str, namespace: int = 0, more: str = "") -> str:
    body = text.replace("<", "&lt;").replace(">", "&gt;")
    return f"""  <page>
    <title>{title}</title>
    <ns>{namespace}</ns>
    <id>7</id>{more}
    <revision>
      <model>wikitext</model>
      <text bytes="9" xml:space="preserve">{body}</text>
    </revision>
  </page>
"""


def dump(*pages: str) -> bytes:
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="zh">\n'
    return f"{head}  <siteinfo>\n    <sitename>W</sitename>\n  </siteinfo>\n{''.join(pages)}</mediawiki>\n".encode()


def corpus(folder: Path, *more: str) -> int:
    command = ["prepare", "text-corpus", "--source", str(folder / "in"), "--out", str(folder / "set"), "--workers", "1"]
    return run([*command, "--max-damaged", "1", "--join", "1", *more])


def passages(folder: Path) -> list[str]:
    made = PreparedSet.open(folder / "set")
    return [text for split in made.manifest.splits for item in made.split(split) for text in item["text"]]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("zhwiki-20260101-pages-articles.xml", bytes),
        ("zhwiki-latest-pages-articles-multistream.xml.bz2", bz2.compress),
        ("zhwiki-latest-pages-articles1.xml-p1p187712.bz2", bz2.compress),
    ],
)
def test_d13_articles_of_a_dump_are_passages(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "in").mkdir()
    content = dump(
        page("红色", ARTICLE),
        page("赤", "#REDIRECT [[红色]]", more='\n    <redirect title="红色" />'),
        page("朱", "#重定向 [[红色]]"),
        page("Talk:红色", "讨论这个条目的人们写下的许多话都在这里。", 1),
        page("空", "{{空}}"),
        page("蓝色", "蓝色是另一种颜色，天空和海洋都是这样的颜色。"),
    )
    (tmp_path / "in" / name).write_bytes(pack(content))
    (tmp_path / "in/zhwiki-latest-pages-articles-multistream-index.txt").write_text("600:1:一个很长很长的标题在此")
    assert corpus(tmp_path) == 0
    assert passages(tmp_path) == [*SHOWN, "蓝色是另一种颜色，天空和海洋都是这样的颜色。"]
    left = Counter((row.why, row.reason) for row in read_ledger(tmp_path / "set") if row.why != "kept")
    assert left == {
        ("filtered", "it is a redirect"): 2,
        ("filtered", "it is a page of another kind than articles"): 1,
        ("filtered", "it has no text"): 1,
    }


def test_d13_a_broken_page_is_damaged_and_the_next_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    texts = [
        f"这是第{number}个条目，它讲的是编号为{number}的一件小事，除此以外没有任何别的内容。" for number in range(4)
    ]
    pages = [page(str(number), text) for number, text in enumerate(texts)]
    pages[1] = pages[1].replace("</title>", "</titel>")
    whole = dump(*pages).replace("第2个".encode(), b"\xff\xfe\x01").removesuffix(b"  </page>\n</mediawiki>\n")
    (tmp_path / "in/a.xml").write_bytes(whole)
    (tmp_path / "in/b.xml").write_text("<html><body/></html>")
    assert corpus(tmp_path) == 0
    assert [text[:4] for text in passages(tmp_path)] == ["这是第0", "这是\ufffd\ufffd"]  # the third has two wrong bytes
    left = {row.id: (row.why, row.reason[:20]) for row in read_ledger(tmp_path / "set") if row.why != "kept"}
    assert left == {
        "a.xml:2": ("damaged", "it is not valid XML "),
        "a.xml:4": ("damaged", "the file breaks off "),
        "b.xml": ("filtered", "an XML document that"),
    }


def test_d13_entities_are_refused_and_never_expanded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    bomb = "".join(f'<!ENTITY l{number} "{f"&l{number - 1};" * 10}">\n' for number in range(1, 30))
    declared = f'<?xml version="1.0"?>\n<!DOCTYPE mediawiki [\n<!ENTITY l0 "笑">\n{bomb}]>\n'
    content = declared.encode() + dump(page("红色", "&l29;"))
    (tmp_path / "in/zhwiki-pages-articles.xml.bz2").write_bytes(bz2.compress(content))
    started = time.process_time()
    assert corpus(tmp_path) == 1
    assert "1 damaged" in capsys.readouterr().err and time.process_time() - started < 10
    assert "document type or entities" in (tmp_path / "set/ledger.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "piece",
    [
        "{{",
        "}}",
        "[[",
        "{{{",
        "{|\n",
        "\n|}",
        "<ref>",
        "</ref>",
        "<ref",
        "<!--",
        "-{",
        "'",
        "=",
        "[//a",
        "（ ",
        "[[a|",
        "a",
    ],
)
def test_d13_markup_of_any_kind_is_read_in_linear_time(piece: str) -> None:
    started = time.process_time()
    for text in (piece * 100_000, piece * 50_000 + "x" + piece[::-1] * 50_000):
        plain(text)
    assert time.process_time() - started < 10


def test_d13_a_tag_that_never_ends_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, endless in (("a", '<page a="'), ("b", "<!--"), ("c", "<a>"), ("d", "<page><title>")):
        (tmp_path / f"in/{name}.xml").write_text(f"<mediawiki>\n{endless}" + (f"{endless}\n" * 100_000))
    assert corpus(tmp_path) == 1


def test_d13_a_folder_of_parquet_files_is_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "data/train-00000-of-00002.parquet": ["好一", "好二"],
        "data/train-00001-of-00002.parquet": ["好三"],
        "data/validation-00000-of-00001.parquet": ["好四"],
        "data/test/0000.parquet": ["好五"],
    }
    for name, texts in files.items():
        path = tmp_path / "reviews" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {"text": texts, "label": [number % 2 for number in range(len(texts))]}
        parquet.write_table(pyarrow.table(columns), path)
    (tmp_path / "reviews/README.md").write_text("no table")
    command = ["prepare", "table", str(tmp_path / "reviews"), "--task", "tc", "--out", str(tmp_path / "set")]
    assert run([*command, "--split-column", "split"]) == 0
    made = PreparedSet.open(tmp_path / "set")
    found = {split: [item["text"] for item in made.split(split)] for split in made.manifest.splits}
    assert found == {"train": [["好一"], ["好二"], ["好三"]], "dev": [["好四"]], "test": [["好五"]]}
    assert run([*command, "--split-column", "split"]) == 0 and "complete already" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(["prepare", "table", str(tmp_path / "empty"), "--task", "tc", "--out", str(tmp_path / "none")]) == 2
    assert "no .parquet file" in capsys.readouterr().err
