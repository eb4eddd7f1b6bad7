"""Tables that hold their files themselves: parquet as Hugging Face's datasets write it, and WebDataset's tars."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from skillnet_cli.cli.app import run
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.sources.members import Member
from skillnet_cli.sources.parquet import _batches, parquet_rows

FILE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
"""The type that the library datasets gives pictures and recordings."""


def skillnet(*words: object, code: int = 0) -> None:
    assert run([str(word) for word in words]) == code


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def write_parquet(path: Path, column: Sequence[object], captions: Sequence[str], kind: pyarrow.DataType = FILE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"info": {"features": {"image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"}}}}
    table = pyarrow.table({"image": pyarrow.array(column, kind), "text": captions})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(told)}), path, row_group_size=7)


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def prepared(out: Path) -> Mapping[str, list[dict[str, object]]]:
    found = PreparedSet.open(out)
    return {split: list(found.split(split)) for split in found.manifest.splits}


def counts(out: Path) -> dict[str, int]:
    return {why: number for why, number in PreparedSet.open(out).manifest.ledger.items() if number}


def content_of(sample: Mapping[str, object]) -> bytes:
    return bytes(sample["image"])  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("kind", [FILE, pyarrow.binary(), pyarrow.large_binary()])
def test_d13_pictures_in_parquet_are_kept_as_they_are(tmp_path: Path, kind: pyarrow.DataType) -> None:
    pictures = [png(seed) for seed in range(40)]
    held = [{"bytes": each, "path": f"{n}.png"} if kind == FILE else each for n, each in enumerate(pictures)]
    for part, where in {"train": slice(0, 30), "test": slice(30, 40)}.items():
        path = tmp_path / f"birds/data/{part}-00000-of-00001.parquet"
        write_parquet(path, held[where], [f"一只鸟{n}" for n in range(40)][where], kind)
    skillnet(
        "prepare", "table", tmp_path / "birds", "--task", "t2i", "--split-column", "split", "--out", tmp_path / "s"
    )
    found = prepared(tmp_path / "s")
    assert {split: len(rows) for split, rows in found.items()} == {"train": 30, "test": 10}
    assert [content_of(row) for row in found["train"]] == pictures[:30]
    assert [content_of(row) for row in found["test"]] == pictures[30:]
    assert [row["text"] for row in found["test"]] == [[f"一只鸟{n}"] for n in range(30, 40)]


def test_d13_rows_of_one_picture_are_one_item(tmp_path: Path) -> None:
    held = [{"bytes": png(n % 3), "path": None} for n in range(6)]
    write_parquet(tmp_path / "t.parquet", held, list("甲乙丙丁戊己"))
    skillnet(
        "prepare", "table", tmp_path / "t.parquet", "--task", "t2i", "--shares", "train=1", "--out", tmp_path / "s"
    )
    rows = prepared(tmp_path / "s")["train"]
    assert [(row["text"], content_of(row)) for row in rows] == [
        (texts, png(n)) for n, texts in enumerate([["甲", "丁"], ["乙", "戊"], ["丙", "己"]])
    ]


def test_d13_a_path_without_bytes_is_a_file_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    held = [
        {"bytes": None, "path": "a.png"},
        {"bytes": png(2), "path": "/etc/passwd"},
        {"bytes": b"no", "path": "b.png"},
        {"bytes": None, "path": str(tmp_path / "a.png")},
        {"bytes": None, "path": "../a.png"},
        {"bytes": None, "path": "gone.png"},
    ]
    write_parquet(tmp_path / "t.parquet", [*held, None], list("甲乙丙丁戊己庚"))
    skillnet(
        "prepare", "table", tmp_path / "t.parquet", "--task", "t2i", "--shares", "train=1", "--out", tmp_path / "s"
    )
    assert [content_of(row) for row in prepared(tmp_path / "s")["train"]] == [png(1), png(2)]
    assert counts(tmp_path / "s") == {"kept": 2, "damaged": 4, "unavailable": 1}


def test_d13_a_tar_of_webdataset_is_a_table(tmp_path: Path) -> None:
    members = [
        each
        for n in range(10)
        for each in [
            (f"birds/{n:03}.png", png(n)),
            (f"birds/{n:03}.txt", f"一只鸟{n}".encode()),
            (f"birds/{n:03}.json", json.dumps({"width": n, "title": f"鸟{n}"}).encode()),
        ]
    ]
    write_tar(tmp_path / "shards/train-000.tar", members[:18])
    write_tar(tmp_path / "shards/dev-000.tar", members[18:])
    columns = "image=png,text=title"
    skillnet(
        "prepare", "table", tmp_path / "shards", "--task", "t2i", "--split-column", "split", "--columns", columns,
        "--out", tmp_path / "s",
    )  # fmt: skip
    found = prepared(tmp_path / "s")
    assert [content_of(row) for row in found["train"] + found["dev"]] == [png(n) for n in range(10)]
    assert [row["text"] for row in found["train"] + found["dev"]] == [[f"鸟{n}"] for n in range(10)]
    assert found["train"][1]["id"] == "train-000.tar/birds/001.png"


def test_d13_what_a_tar_lacks_or_hides_is_counted(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "t.tar",
        [
            ("a.png", png(1)), ("a.txt", "甲".encode()),
            ("b.png", png(2)),  # no text
            ("c.txt", "丙".encode()),  # no picture
            ("d.png", b"no picture"), ("d.txt", "丁".encode()),
            ("e.png", png(5)), ("e.png", png(6)), ("e.txt", "戊".encode()),
            ("../f.png", png(7)),
            ("g.png", png(8)), ("g.json", b"[1, 2]"), ("g.txt", "庚".encode()),
            ("h.png", png(9)), ("h.txt", "辛".encode()),
        ],
    )  # fmt: skip
    columns = "image=png,text=txt"
    skillnet(
        "prepare", "table", tmp_path / "t.tar", "--task", "t2i", "--columns", columns, "--shares", "train=1",
        "--out", tmp_path / "s",
    )  # fmt: skip
    assert [row["text"] for row in prepared(tmp_path / "s")["train"]] == [["甲"], ["辛"]]
    assert counts(tmp_path / "s") == {"kept": 2, "damaged": 6}


def test_d13_a_compressed_tar_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(tmp_path / "t.tar", "w:gz"):
        pass
    skillnet("prepare", "table", tmp_path / "t.tar", "--task", "t2i", "--out", tmp_path / "s", code=2)
    assert "a compressed tar cannot be read at any place: decompress it first" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.tar"]


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_d13_a_changed_table_is_another(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"t.{kind}"

    def write(seed: int) -> None:
        if kind == "parquet":
            write_parquet(path, [{"bytes": png(seed), "path": "a.png"}], ["甲"])
        else:
            write_tar(path, [("a.image", png(seed)), ("a.text", "甲".encode())])

    words = ["prepare", "table", path, "--task", "t2i", "--shares", "train=1", "--out", tmp_path / "s"]
    write(1)
    skillnet(*words)
    skillnet(*words)
    assert "is complete already" in capsys.readouterr().err
    write(2)
    skillnet(*words, code=2)
    assert "changed" in capsys.readouterr().err
    skillnet(*words, "--again")
    assert content_of(prepared(tmp_path / "s")["train"][0]) == png(2)


def test_d13_tars_of_one_name_hold_different_files(tmp_path: Path) -> None:
    for number, folder in enumerate(("train", "more")):
        write_tar(tmp_path / f"t/{folder}/0.tar", [("a.png", png(number)), ("a.txt", "甲".encode())])
    columns = "image=png,text=txt"
    skillnet(
        "prepare", "table", tmp_path / "t", "--task", "t2i", "--columns", columns, "--shares", "train=1",
        "--out", tmp_path / "s",
    )  # fmt: skip
    rows = prepared(tmp_path / "s")["train"]
    assert {str(row["id"]): content_of(row) for row in rows} == {
        "more/0.tar/a.png": png(1),
        "train/0.tar/a.png": png(0),
    }


@pytest.mark.parametrize("column", ["txt", "title"])
def test_d13_a_first_sample_without_a_part_is_one_damaged_row(tmp_path: Path, column: str) -> None:
    told = [("b.json", json.dumps({"title": "乙"}).encode()), ("b.txt", "乙".encode())]
    write_tar(tmp_path / "t.tar", [("README.md", b"# read me"), ("a.png", png(1)), ("b.png", png(2)), *told])
    columns = f"image=png,text={column}"
    skillnet(
        "prepare", "table", tmp_path / "t.tar", "--task", "t2i", "--columns", columns, "--shares", "train=1",
        "--out", tmp_path / "s",
    )  # fmt: skip
    assert [content_of(row) for row in prepared(tmp_path / "s")["train"]] == [png(2)]
    assert counts(tmp_path / "s") == {"kept": 1, "damaged": 2}


def test_d13_a_path_in_a_folder_of_tables_is_a_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "t/pictures").mkdir(parents=True)
    (tmp_path / "t/pictures/a.png").write_bytes(png(1))
    write_parquet(tmp_path / "t/data/0.parquet", [{"bytes": None, "path": "pictures/a.png"}], ["甲"])
    skillnet("prepare", "table", tmp_path / "t", "--task", "t2i", "--shares", "train=1", "--out", tmp_path / "s")
    assert [content_of(row) for row in prepared(tmp_path / "s")["train"]] == [png(1)]


@pytest.mark.parametrize("written", [{}, {"write_page_checksum": True}, {"data_page_version": "2.0"}])
@pytest.mark.parametrize("column", ["image", "text"])
def test_d13_a_damaged_page_is_as_many_damaged_rows_as_its_group_has_left(
    tmp_path: Path, column: str, written: Mapping[str, object]
) -> None:
    """And the groups behind it are read; the sum of all rows is the table's."""
    path, held = tmp_path / "t.parquet", [{"bytes": png(n), "path": f"{n}.png"} for n in range(30)]
    table = pyarrow.table({"image": pyarrow.array(held, FILE), "text": [f"第{n}只" for n in range(30)]})
    parquet.write_table(table, path, row_group_size=10, compression="gzip", use_dictionary=False, **written)
    place = 0 if column == "image" else 2
    chunk = parquet.ParquetFile(path).metadata.row_group(1).column(place)
    content, start = bytearray(path.read_bytes()), chunk.data_page_offset
    middle = start + chunk.total_compressed_size // 2
    content[middle : middle + 16] = bytes(byte ^ 0xFF for byte in content[middle : middle + 16])
    path.write_bytes(content)
    skillnet("prepare", "table", path, "--task", "t2i", "--shares", "train=1", "--out", tmp_path / "s")
    rows = prepared(tmp_path / "s")["train"]
    whole = [*range(10), *range(20, 30)]
    assert [(content_of(row), row["text"]) for row in rows] == [(png(n), [f"第{n}只"]) for n in whole]
    assert counts(tmp_path / "s") == {"kept": 20, "damaged": 10}


def test_d13_a_group_that_claims_rows_without_end_ends_the_table(tmp_path: Path) -> None:
    """A text that is not UTF-8 damages its own row alone."""
    path = tmp_path / "t.parquet"
    wrong = pyarrow.array([b"a", b"\xff", b"c"]).cast(pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": wrong}), path, use_dictionary=False)
    assert [(row.cells, row.damage) for row in parquet_rows(path)] == [
        ({"text": "a"}, None), ({}, "row 2 cannot be read: its part of the table is damaged"), ({"text": "c"}, None)
    ]  # fmt: skip

    class Group:
        num_rows, total_byte_size = 1 << 50, 1

    class Table:
        metadata = type("", (), {"num_row_groups": 1, "row_group": lambda self, number: Group()})()

        def iter_batches(self, *size: object, **more: object) -> object:
            raise OSError("Corrupt snappy compressed data.")

    with pytest.raises(OSError, match="Corrupt"):
        list(_batches(Table(), path, 16))


def test_d13_files_of_a_tar_that_nobody_asks_for_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [("a.png", png(1)), ("a.txt", "甲".encode()), ("a.mask.png", b"large"), ("a.npz", b"larger")]
    write_tar(tmp_path / "t.tar", members)
    read, plain = [], Member.read
    monkeypatch.setattr(Member, "read", lambda self: read.append(self.name) or plain(self))
    skillnet(
        "prepare", "table", tmp_path / "t.tar", "--task", "t2i", "--columns", "image=png,text=txt", "--shares",
        "train=1", "--out", tmp_path / "s",
    )  # fmt: skip
    assert counts(tmp_path / "s") == {"kept": 1} and set(read) == {"a.png", "a.txt"}
