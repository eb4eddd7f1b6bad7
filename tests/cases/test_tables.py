"""Tables as people and spreadsheets leave them: every row is an item or a row of the ledger."""

from __future__ import annotations

import csv
import io
import json
import os
import time
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from skillnet_cli.api import DamagedItem
from skillnet_cli.cli.app import run
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.sources.members import Member
from skillnet_cli.sources.tables import CsvFile, read_rows
from skillnet_cli.sources.texts import decode


def prepared(table: Path, *more: str, task: str = "tc") -> tuple[list[dict[str, Any]], Counter[str], list[str]]:
    """The items of split train, the ledger's counts, and the reasons for what is left out."""
    out = table.parent / "set"
    code = run(["prepare", "table", str(table), "--task", task, "--out", str(out), "--shares", "train=1", *more])
    assert code == 0
    rows = list(read_ledger(out))
    items = list(PreparedSet.open(out).split("train"))
    return items, Counter(row.why for row in rows), [row.reason for row in rows if row.why != "kept"]


SWALLOWED = {
    "t.tsv": 'text\tlabel\n第一行\t1\n"开头有引号\t0\n第三行\t1\n第四行\t0\n又一个"引号\t1\n第六行\t0\n',
    "t.csv": 'label,text\n1,第一行\n0,"开头有引号\n1,第三行\n0,第四行\n1,第五行\n0,第六行\n',
    "last.csv": 'label,text\n1,第一行\n0,第二行\n1,第三行\n0,第四行\n1,第五行\n0,"第六行\n',
}


@pytest.mark.parametrize("name", SWALLOWED)
def test_l01_a_quote_that_is_never_closed_swallows_no_row(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(SWALLOWED[name], encoding="utf-8")
    items, counts, _ = prepared(tmp_path / name)
    assert sum(counts.values()) == 6 and counts["damaged"] <= 2
    assert {"第六行" if name != "last.csv" else "第五行", "第三行"} <= {item["text"][0] for item in items}
    assert all("\n" not in text for item in items for text in item["text"])


def test_l01_sound_tables_are_as_the_csv_module_reads_them(tmp_path: Path) -> None:
    cells = ["一", 'say "no"', "two\nlines", "a,b", " x ", "tab\there", "三\r\n四", "'", "x" * 200_000]
    for name, separator in (("t.csv", ","), ("t.tsv", "\t"), ("s.csv", ";"), ("b.csv", "|")):
        file = io.StringIO()
        writer = csv.writer(file, delimiter=separator, lineterminator="\r\n")
        writer.writerows([["text", "label", "more"], *([cell, str(place), ""] for place, cell in enumerate(cells))])
        (tmp_path / name).write_text(file.getvalue(), encoding="utf-8", newline="")
        file.seek(0)
        csv.field_size_limit(1 << 20)
        truth = list(csv.DictReader(file, delimiter=separator))
        assert [row.cells for row in read_rows(tmp_path / name)] == truth


ENCODINGS = ["utf-8", "utf-8-sig", "gbk", "gb18030", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
def test_r12_every_usual_encoding_is_read(tmp_path: Path, encoding: str, kind: str) -> None:
    texts = ["这条评论写得很好", "这条评论，写得不好", "一一一"]
    if kind in ("jsonl", "json"):
        rows = [json.dumps({"text": text, "label": place}, ensure_ascii=False) for place, text in enumerate(texts)]
        whole = "\n".join(rows) if kind == "jsonl" else f"[{','.join(rows)}]"
    else:
        separator = "," if kind == "csv" else "\t"
        whole = "\n".join(separator.join(row) for row in [("text", "label"), *zip(texts, "012", strict=True)])
    (tmp_path / f"t.{kind}").write_bytes(whole.encode(encoding))
    items, counts, _ = prepared(tmp_path / f"t.{kind}")
    assert [item["text"] for item in items] == [[text] for text in texts] and counts == {"kept": 3}
    assert [item["label"] for item in items] == ["0", "1", "2"]


TRADITIONAL = "紅色的汽車停在路邊"


@pytest.mark.parametrize(
    ("encoding", "text", "read"),
    [
        ("big5", TRADITIONAL, True),
        ("cp950", TRADITIONAL[:4], True),
        ("gbk", TRADITIONAL, True),
        ("gb18030", "a😀b", True),
        ("gbk", "囍", True),
        ("cp1252", "Die Straße war schön", False),
        ("latin-1", "Le café était très agréable", False),
        ("shift_jis", "赤い車が走っています", False),
        ("cp1251", "Красная машина едет", False),
    ],
)
def test_r12_nothing_is_read_as_what_it_is_not(tmp_path: Path, encoding: str, text: str, read: bool) -> None:
    """Nearly all bytes are some character of GB 18030, hardly any text but a Chinese one has its common ones."""
    (tmp_path / "t.csv").write_bytes(f"text,label\n{text},1\nok,2\n".encode(encoding))
    first, second = read_rows(tmp_path / "t.csv")
    assert (first.cells["text"] == text) if read else (first.damage == "row 1 is not text in UTF-8")
    assert second.cells == {"text": "ok", "label": "2"}
    if read:
        assert decode(text.encode(encoding)) == text
    else:
        with pytest.raises(DamagedItem, match="it is not text in UTF-8, UTF-16, GB 18030 or Big5"):
            decode(text.encode(encoding))


def test_r12_a_broken_row_among_sound_ones_is_one_row(tmp_path: Path) -> None:
    rows = [f"这是第{place}行,1\n".encode() for place in range(20)]
    (tmp_path / "t.csv").write_bytes(b"".join([b"text,label\n", *rows, b"\xff\xfe\x80,1\n", *rows[:1]]))
    found = list(read_rows(tmp_path / "t.csv"))
    assert [row.damage for row in found if row.damage] == ["row 21 is not text in UTF-8"] and len(found) == 22


@pytest.mark.parametrize(("separator", "called"), [("\t", "tabs"), (";", "semicolons"), ("|", "bars")])
def test_m08_other_separators_are_found_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], separator: str, called: str
) -> None:
    lines = [separator.join(cells) for cells in (("text", "label"), ("很好, 真的", "1"), ("不好", "0"))]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    items, counts, _ = prepared(tmp_path / "t.csv")
    assert [item["text"] for item in items] == [["很好, 真的"], ["不好"]] and counts == {"kept": 2}
    assert f"its cells are separated by {called}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("描述, 长", "text=描述, 长"),
        ("描述, 长", 'text="描述, 长",label=label'),
        (" 描述", "text= 描述"),
        (" 描述", "text=描述"),
        ("a,label=b", 'text="a,label=b"'),
        ('a "b"', 'text="a ""b"""'),
        ("a=b", "text=a=b,label=label"),
    ],
)
def test_r14_any_column_can_be_named(tmp_path: Path, header: str, columns: str) -> None:
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[header, "other", "label"], ["第一条评论", "甲", "1"]])
    items, _, _ = prepared(tmp_path / "t.csv", "--columns", columns)
    assert items[0]["text"] == ["第一条评论"]


def test_r14_of_two_columns_that_differ_in_blanks_each_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text, text,label\n甲,乙,1\n", encoding="utf-8")
    assert prepared(tmp_path / "t.csv", "--columns", "text= text")[0][0]["text"] == ["乙"]


NO_TEXTS = ["NaN", "Infinity", "1e999", "null", '{"zh": "你好"}', "[]", '[{"a": 1}]', "[null]", "true", '""']


def test_w10_what_is_no_text_is_a_damaged_row(tmp_path: Path) -> None:
    lines = [f'{{"text": {value}, "label": 1, "unused": NaN}}' for value in [*NO_TEXTS, '"好"', "12", '["甲", "乙"]']]
    (tmp_path / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    items, counts, _ = prepared(tmp_path / "t.jsonl")
    assert [item["text"] for item in items] == [["好"], ["12"], ["甲", "乙"]]
    assert counts == {"kept": 3, "damaged": len(NO_TEXTS)}


def pictures(folder: Path, *names: str) -> None:
    for place, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (place * 40, 0, 0)).save(path, "PNG")


def test_w11_spellings_of_one_path_are_one_item(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é.png")
    pictures(tmp_path, "a.png", "b/c.png", "é.png")
    (tmp_path / "linked.png").symlink_to("a.png")
    groups = [
        ["a.png", "./a.png", "b/../a.png", str(tmp_path / "a.png"), "linked.png"],
        ["b/c.png", "b//c.png", "b/./c.png"],
        ["é.png", decomposed],
    ]
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [[name, f"{number} {place}"] for number, group in enumerate(groups) for place, name in enumerate(group)]
        csv.writer(file).writerows([["image", "text"], *rows])
    items, counts, _ = prepared(tmp_path / "t.csv", task="t2i")
    assert [item["id"] for item in items] == ["a.png", "b/c.png", "é.png"] and counts == {"kept": 3}
    assert [len(item["text"]) for item in items] == [5, 3, 2]


def test_d12_a_list_of_objects_is_a_table(tmp_path: Path) -> None:
    rows = [{"text": f"第{n}句", "label": "甲乙"[n % 2]} for n in range(4)]
    (tmp_path / "t.json").write_text(json.dumps([*rows, 5], indent=1), encoding="utf-8")
    items, counts, reasons = prepared(tmp_path / "t.json")
    assert [item["text"] for item in items] == [[row["text"]] for row in rows]
    assert counts == {"kept": 4, "damaged": 1} and reasons == ["row 5 is not a JSON object"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_d12_empty_lines_are_counted_apart(tmp_path: Path, end: str) -> None:
    (tmp_path / "t.csv").write_text(end.join(["text,label", "甲", "乙丙,1", "", "丁戊,0", "", ""]), newline="")
    items, counts, reasons = prepared(tmp_path / "t.csv")
    assert [item["text"] for item in items] == [["乙丙"], ["丁戊"]]
    assert counts == {"kept": 2, "damaged": 1, "filtered": 2}
    assert reasons.count("an empty line") == 2


def test_l01_blank_last_columns_are_no_damage(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label,,\n甲乙,1,,\n丙丁,0,,,\n多了,1,,x\n", encoding="utf-8")
    items, counts, reasons = prepared(tmp_path / "t.csv")
    assert [item["text"] for item in items] == [["甲乙"], ["丙丁"]] and counts["damaged"] == 1
    assert reasons == ["row 3 has 4 cells, the header has 2"]


def test_s10_a_cell_without_end_is_one_damaged_row_in_little_memory(tmp_path: Path) -> None:
    def content() -> bytes:
        return b"text,label\n" + b"a,1\n" + b"x" * (40 << 20) + b",1\n" + b"b,0\n"

    (tmp_path / "t.csv").write_bytes(content())
    rows = list(read_rows(tmp_path / "t.csv"))
    assert [row.damage is None for row in rows] == [True, False, True]
    assert "more than" in str(rows[1].damage)


def test_s11_only_regular_files_are_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("csv", "json", "jsonl", "parquet"):
        os.mkfifo(tmp_path / f"t.{kind}")
        assert run(["prepare", "table", str(tmp_path / f"t.{kind}"), "--task", "tc", "--out", str(tmp_path / "s")]) == 2
        assert "is a named pipe, not a file" in capsys.readouterr().err


def test_d12_many_captions_of_few_pictures_take_linear_time(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{number}.png" for number in range(4)))
    lines = [f"{number % 4}.png,caption {number}" for number in range(20_000)]
    (tmp_path / "t.csv").write_text("\n".join(["image,text", *lines]), encoding="utf-8")
    start = time.process_time()
    items, _, _ = prepared(tmp_path / "t.csv", task="t2i")
    assert [len(item["text"]) for item in items] == [5_000] * 4
    assert time.process_time() - start < 15  # comparing each with each takes minutes


def test_r12_published_tables_in_utf_16_are_read_by_ranges() -> None:
    rows = [f"http://x/{number},第 {number} 张图" for number in range(25)]
    content = "\n".join(["url,caption", *rows]).encode("utf-16")
    table = CsvFile(Member("t.csv", len(content), lambda: io.BytesIO(content)))
    found = [row for each in table.ranges(10) for row in table.read(*each)]
    assert [f"{row.cells['url']},{row.cells['caption']}" for row in found] == rows
