"""Texts and code of any size, encoding and age: bounded, read as they mean it, nothing left out in silence."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.api import DamagedItem
from skillnet_cli.cli.app import run
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_code.config import CodeConfig
from skillnet_code.datasets.functions import functions
from skillnet_code.datasets.records import without_docstring
from skillnet_code.learn import learn_vocabulary as learn_code
from skillnet_code.reader import CodeReader
from skillnet_text.config import TextConfig
from skillnet_text.datasets.cleaning import clean, split_long
from skillnet_text.learn import learn_vocabulary
from skillnet_text.reader import TextReader
from skillnet_text.tokens import blocks

POEM = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabularies")
    learn_vocabulary([f"{POEM} the quick brown fox 12"] * 3, 200, folder / "text.txt")
    learn_code(["def f(a, b):\n    return a + b  # 好\n"] * 3, 600, folder / "code.txt")
    return folder


def text_reader(folder: Path, length: int = 32) -> TextReader:
    return TextReader(TextConfig(vocab=folder / "text.txt", max_length=length))


def code_reader(folder: Path, length: int = 32) -> CodeReader:
    return CodeReader(CodeConfig(vocab=folder / "code.txt", max_length=length))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030", "utf-16", "utf-16-le", "utf-16-be"])
def test_r12_texts_in_any_usual_encoding_are_one_text(vocabularies: Path, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "g.txt").write_bytes(f"{POEM} ok\n".encode(encoding))
    reader = text_reader(vocabularies)
    assert reader.read(tmp_path / "g.txt").tolist() == reader.read(f"{POEM} ok").tolist()


def test_s10_a_large_text_or_code_takes_little_memory(vocabularies: Path, tmp_path: Path) -> None:
    for reader, name, line in (
        (text_reader(vocabularies), "long.txt", POEM * 1000),
        (code_reader(vocabularies), "long.py", "a = b  # 好\n" * 8_000),
    ):
        (tmp_path / name).write_text(line, encoding="utf-8")
        tracemalloc.start()
        reader.read(tmp_path / name)
        windows = sum(1 for _ in reader.split(tmp_path / name))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert windows > 500 and used < 20 * (tmp_path / name).stat().st_size


def test_s10_blocks_have_the_pieces_of_the_whole(vocabularies: Path) -> None:
    code = "".join(f"    name_{n} = [{n}, 'x y',\t{n * 7}]\r\n\n\n" for n in range(400))
    words = "".join(f"{POEM} fox{n},brown " for n in range(200))
    for reader, text in ((code_reader(vocabularies), code), (text_reader(vocabularies), words)):
        for size in (16, 100, 1000):
            assert "".join(blocks(text, size)) == text
        parts = [piece for block in blocks(text, 500) for piece in reader.pieces(block)]
        assert parts == reader.pieces(text)


@pytest.mark.parametrize("name", ["x.txt", "x.py"])
def test_s10_a_text_of_too_many_bytes_is_damaged(vocabularies: Path, tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(100 << 20)
    reader: Any = text_reader(vocabularies) if name == "x.txt" else code_reader(vocabularies)
    with pytest.raises(DamagedItem, match="more than"):
        reader.read(tmp_path / name)


@pytest.mark.parametrize("name", ["x.txt", "x.py"])
def test_s11_a_named_pipe_is_no_text(vocabularies: Path, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    reader: Any = text_reader(vocabularies) if name == "x.txt" else code_reader(vocabularies)
    with pytest.raises(DamagedItem, match="named pipe"):
        reader.read(tmp_path / name)


def test_s10_a_python_file_of_data_is_damaged_before_it_is_parsed() -> None:
    with pytest.raises(DamagedItem, match="more than"):
        next(functions("x.py", b"x = [" + b"1, " * (1 << 20) + b"]\n"))
    with pytest.raises(DamagedItem):
        next(functions("x.py", b"x = " + b"(" * 50_000 + b"1" + b")" * 50_000))
    with pytest.raises(DamagedItem):
        list(functions("x.py", b"def f():\n    '''x'''; return " + b"-" * 50_000 + b"1\n"))


def test_s11_cleaning_takes_linear_time() -> None:
    start = time.process_time()
    assert clean("<!--" * 200_000).count("<") == 200_000
    assert clean("前<!-- 中 <b> -->后<!--x-->。<br>") == "前后。"
    assert "".join(split_long("好" * 2_000_000, 480)) == "好" * 2_000_000
    assert max(map(len, split_long("一二三。" * 30_000, 480))) <= 480
    assert clean("&#" + "9" * 10_000 + ";")
    assert time.process_time() - start < 10


def test_s11_short_lines_without_end_are_given_up(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bomb.txt.gz").write_bytes(gzip.compress((b" " * 9999 + b"\n") * 4_000))
    (tmp_path / "in" / "good.txt").write_text(POEM * 2, encoding="utf-8")
    assert corpus(tmp_path, "--max-damaged", "1") == 0
    reasons = {row.id: row.reason for row in read_ledger(tmp_path / "set") if row.why == "damaged"}
    assert len(reasons) == 1 and "unpacks to more than" in next(iter(reasons.values()))


def corpus(folder: Path, *more: str) -> int:
    command = ["prepare", "text-corpus", "--source", str(folder / "in"), "--out", str(folder / "set"), "--workers", "1"]
    return run([*command, *more])


def test_s10_a_line_without_end_is_one_damaged_line(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.txt").write_bytes(POEM.encode() * 2 + b"\n" + b"x" * (40 << 20) + b"\n" + POEM.encode())
    assert corpus(tmp_path, "--max-damaged", "1") == 0
    assert [row.why for row in read_ledger(tmp_path / "set")].count("damaged") == 1


def test_s12_circles_of_links_and_pipes_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.txt").write_text(POEM, encoding="utf-8")
    (folder / "loop").symlink_to("loop")
    (folder / "a.txt").symlink_to("b.txt")
    (folder / "b.txt").symlink_to("a.txt")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "b.zip")
    deep = folder
    for _ in range(120):
        deep /= "d"
    deep.mkdir(parents=True)
    (deep / "x.txt").write_text(POEM, encoding="utf-8")
    assert corpus(tmp_path, "--max-damaged", "1") == 0
    rows = {row.id: row.why for row in read_ledger(tmp_path / "set")}
    assert {name for name, why in rows.items() if why == "damaged"} >= {"loop", "a.txt", "b.txt", "up", "b.zip"}
    assert any("folders deep" in row.reason for row in read_ledger(tmp_path / "set"))
    assert PreparedSet.open(tmp_path / "set").manifest.ledger["kept"] == 1


@pytest.mark.parametrize("source", ["/dev/urandom", "pipe"])
def test_s11_only_regular_files_are_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = source if source.startswith("/") else str(tmp_path / source)
    assert run(["prepare", "text-corpus", "--source", path, "--out", str(tmp_path / "set")]) == 2
    assert "not a file" in capsys.readouterr().err


def test_s11_many_small_files_are_few_ranges(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(1010):
        (tmp_path / "in" / f"{number:04d}.txt").write_text(f"第{number}篇：{POEM}", encoding="utf-8")
    assert corpus(tmp_path) == 0
    assert PreparedSet.open(tmp_path / "set").manifest.ledger["kept"] == 1010
    assert len({row.id.partition(":")[0] for row in read_ledger(tmp_path / "set")}) == 1010


COOKIES = {
    "gbk": b"# -*- coding: gbk -*-\n",
    "big5": b"#!/usr/bin/python\n# vim: set fileencoding=big5 :\n",
    "latin-1": b"# coding: latin-1\n",
    "utf-8-sig": b"",
    "utf-8": b"",
}


@pytest.mark.parametrize("encoding", COOKIES)
def test_r16_a_file_is_read_in_the_encoding_that_it_declares(vocabularies: Path, tmp_path: Path, encoding: str) -> None:
    words = "café" if encoding == "latin-1" else "中文"
    body = f'def f(a):\n    """{words}"""\n    return "{words}"\n'
    content = COOKIES[encoding] + body.encode(encoding)
    content = content if encoding != "utf-8-sig" else codecs.BOM_UTF8 + body.encode()
    (found,) = functions("g.py", content)
    assert found.docstring == words and found.code == f'def f(a):\n    return "{words}"\n'
    (tmp_path / "g.py").write_bytes(content)
    reader = code_reader(vocabularies)
    assert reader.read(tmp_path / "g.py").tolist() == reader.read(COOKIES[encoding].decode() + body).tolist()


@pytest.mark.parametrize("cookie", ["nope", "rot13", "utf-16", "ascii", "undefined", "hex"])
def test_r16_an_encoding_that_does_not_fit_is_one_line(cookie: str) -> None:
    with pytest.raises(DamagedItem) as error:
        list(functions("g.py", f"# coding: {cookie}\nx = '中'\n".encode()))
    assert "\n" not in str(error.value)


SAID = "读取配置文件并返回其中的全部选项五"
OLD = "    print 'old', p\n    return 5\n"
DOCSTRINGS = {
    "single quotes": f"    u'{SAID}'\n",
    "double quotes": f'    "{SAID}"\n',
    "three quotes": f'    ur"""{SAID}\n\n    more\n    """\n',
    "behind a comment": f"    # first\n    '{SAID}'\n",
    "in pieces": f"    '{SAID[:5]}' \\\n    '{SAID[5:]}'\n",
    "in brackets": f"    ('{SAID[:5]}'\n     '{SAID[5:]}')\n",
    "with a comment": f"    '{SAID}'  # so\n",
    "before a semicolon": f"    '{SAID}'; ",
}


@pytest.mark.parametrize("form", DOCSTRINGS)
def test_d10_a_docstring_is_cut_out_of_older_code(form: str) -> None:
    head = "@route('/a:b')\ndef f5(p, q={'x': 'y:'}, r='a:b'):\n"
    rest = without_docstring(head + DOCSTRINGS[form] + OLD)
    assert "".join(rest.split()) == "".join((head + ("    # first\n" * (form == "behind a comment")) + OLD).split())
    assert SAID[5:] not in rest


def records(folder: Path, *more: dict[str, Any]) -> Path:
    rows = [{"language": "python", "partition": "train", **row} for row in more]
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_d10_no_description_stays_in_the_code(tmp_path: Path) -> None:
    source = records(
        tmp_path / "in",
        {"code": f"def f5(p):\n    u'{SAID}'\n{OLD}", "docstring": SAID},
        {"code": f"def f6(p):\n    x = 1\n    # {SAID}六\n{OLD}", "docstring": f"{SAID}六"},
    )
    assert run(["prepare", "pytorrent", "--source", str(source), "--out", str(tmp_path / "o")]) == 0
    opened = PreparedSet.open(tmp_path / "o")
    codes = [sample["code"] for split in opened.manifest.splits for sample in opened.split(split)]
    assert codes == [f"def f5(p):\n{OLD}"]
    assert opened.manifest.ledger["filtered"] == 1


@pytest.mark.parametrize("name", ["pytorrent", "code-pretrain"])
def test_a03_descriptions_have_at_most_64_tokens(tmp_path: Path, name: str) -> None:
    texts = [
        "第一句说明这个函数的用途。" * 20,
        "没有标点的一段很长的说明" * 30,
        "调用 some_long_name 与 another_name 之后返回结果，" * 12,
        "公司㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿㍿的说明",
        "很短的一句说明",
    ]
    rows = [
        {"code": f"def f{n}(x):\n    return x * {'+'.join('abcdefg'[: n + 2])}\n", "docstring": text}
        for n, text in enumerate(texts)
    ]
    source = records(tmp_path / "in", *rows)
    more = ["--disjoint-from", "none"] if name == "code-pretrain" else []
    assert run(["prepare", name, "--source", str(source), "--out", str(tmp_path / "o"), *more]) == 0
    opened = PreparedSet.open(tmp_path / "o")
    kept = [text for split in opened.manifest.splits for sample in opened.split(split) for text in sample["text"]]
    assert len(kept) == len(texts) and "很短的一句说明" in kept
    # A vocabulary of single characters makes as many tokens of a text as any can.
    for text in kept:
        pieces = sorted({each for word in kept for each in word.lower()} | set("(株式会社)"))
        (tmp_path / "v.txt").write_text(
            "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces])
            + "\n"
            + "".join(f"##{p}\n" for p in pieces),
            encoding="utf-8",
        )
        assert len(TextReader(TextConfig(vocab=tmp_path / "v.txt")).read(text)) + 1 <= 64
    assert opened.manifest.choices["descriptions cut to 62 characters"] == 4


def tnews(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


LABELLED = '{"sentence": "今天的新闻", "label": "100"}\n\n{"sentence": "明天的新闻", "label": "101"}\n\n'
UNLABELLED = '{"id": 0, "sentence": "后天的新闻"}\n'


def test_d12_clues_other_test_sets_are_read_or_counted(tmp_path: Path) -> None:
    both = {"train.json": LABELLED, "dev.json": LABELLED}
    one = tnews(tmp_path / "one", {**both, "test1.0.json": UNLABELLED})
    assert run(["prepare", "tnews", "--source", str(one), "--out", str(tmp_path / "o1")]) == 0
    opened = PreparedSet.open(tmp_path / "o1")
    assert opened.manifest.splits["test"].items == 1
    assert opened.manifest.ledger["damaged"] == 0 and opened.manifest.ledger["filtered"] == 4
    two = tnews(tmp_path / "two", {**both, "test.json": UNLABELLED, "test1.0.json": UNLABELLED * 2})
    assert run(["prepare", "tnews", "--source", str(two), "--out", str(tmp_path / "o2")]) == 0
    assert PreparedSet.open(tmp_path / "o2").manifest.splits["test"].items == 1
    rows = {row.id: row.why for row in read_ledger(tmp_path / "o2")}
    assert rows["test1.0.json"] == "filtered"


def test_d12_of_two_files_of_a_split_none_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("train.json", "dev.json", "old/dev.json")
    source = tnews(tmp_path / "in", dict.fromkeys(names, LABELLED))
    assert run(["prepare", "tnews", "--source", str(source), "--out", str(tmp_path / "o")]) == 2
    assert "either could be the split 'dev'" in capsys.readouterr().err
