"""Anyone's table as a prepared set: fields, files, splits, and an account of every row."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.api import FailedJob, Task, UserError
from skillnet_cli.data.format import Entry, read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.objectives import load
from skillnet_cli.objectives.ctc import Ctc
from skillnet_cli.plugins import Plugin, Registry, build_registry
from skillnet_cli.prepare.table import TableJob, prepare_table


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A table of the kind that the name's suffix says."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(list(rows)), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    return path


def blobs(folder: Path, count: int) -> list[dict[str, Any]]:
    """Files, and two rows for each."""
    (folder / "files").mkdir()
    for number in range(count):
        (folder / "files" / f"{number}.toy").write_bytes(f"3 {3 + number}".encode())
    names = [f"files/{number}.toy" for number in range(count)]
    return [{"file": name, "caption": f"{name} {way}"} for name in names for way in ("甲", "乙")]


def left_out(folder: Path) -> list[Entry]:
    return [entry for entry in read_ledger(folder) if entry.why != "kept"]


def job(registry: Registry, table: Path, task: str, **settings: Any) -> TableJob:
    feeds = registry.task(task)
    kind = load(feeds.objective, registry).target_kind
    return TableJob(table, table.parent / "set", feeds, kind, **{"fractions": {"train": 1.0}, **settings})


COLUMNS = {"blob": "file", "words": "caption"}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_rows_of_the_same_file_are_one_item_with_several_texts(tmp_path: Path, registry: Registry, suffix: str) -> None:
    table = write(tmp_path / f"pictures{suffix}", blobs(tmp_path, 3))
    manifest = prepare_table(job(registry, table, "find", columns=COLUMNS, licence="CC0"), registry)
    split = PreparedSet.open(tmp_path / "set").split("train")
    assert list(split) == [
        {
            "id": f"files/{number}.toy",
            "words": [f"files/{number}.toy 甲", f"files/{number}.toy 乙"],
            "blob": f"3 {3 + number}".encode(),
        }
        for number in range(3)
    ]
    assert manifest.ledger["kept"] == 3 and manifest.licence == "CC0" and manifest.name == "set"
    assert manifest.choices["columns"] == COLUMNS and manifest.choices["rows"] == 6


def test_every_row_that_cannot_be_used_is_accounted_for(tmp_path: Path, registry: Registry) -> None:
    rows = blobs(tmp_path, 2)
    (tmp_path / "files" / "broken.toy").write_bytes(b"broken")
    rows += [{"file": file, "caption": "x"} for file in ("files/broken.toy", "files/nowhere.toy", "files", "a\0b")]
    rows += [{"file": "files/0.toy", "caption": " "}, {"file": "", "caption": "x"}, rows[0]]
    table = write(tmp_path / "pictures.jsonl", rows)
    with table.open("a") as file:
        file.write('{"file": "files/1.toy", "capt\n[]\n')
    manifest = prepare_table(job(registry, table, "find", columns=COLUMNS), registry)
    found = {entry.id: (entry.why, entry.reason) for entry in left_out(tmp_path / "set")}
    assert found == {
        "row 9": ("damaged", "the column 'caption' is empty"),
        "row 10": ("damaged", "the column 'file' is empty"),
        "row 11": ("duplicate", "the same blob as in row 1"),
        "row 12": ("damaged", "row 12 is not a JSON object"),
        "row 13": ("damaged", "row 13 is not a JSON object"),
        "files/broken.toy": ("damaged", "not numbers: 'broken'"),
        "files/nowhere.toy": ("unavailable", "there is no such file"),
        "files": ("unavailable", "it is a folder, not a file"),
        "a\0b": ("damaged", "its path is none"),
    }
    assert manifest.ledger == {"kept": 2, "filtered": 0, "duplicate": 1, "unavailable": 2, "damaged": 6}


def test_labelled_texts(tmp_path: Path, registry: Registry) -> None:
    rows = [{"words": "3 4", "label": "好"}, {"words": "5", "label": 7}, {"words": "3 4", "label": "坏"}]
    rows += [{"words": "5", "label": 7}]
    manifest = prepare_table(job(registry, write(tmp_path / "t.jsonl", rows), "sort"), registry)
    assert list(PreparedSet.open(tmp_path / "set").split("train")) == [
        {"id": "row 1", "words": ["3 4"], "label": "好"},
        {"id": "row 2", "words": ["5"], "label": "7"},
    ]
    assert manifest.targets == {"label": ["7", "好"]}
    assert [entry.reason for entry in left_out(tmp_path / "set")] == [
        "the same words as in row 1 with another label",
        "the same words as in row 2",
    ]


def test_transcribed_recordings_are_spelt_in_characters(tmp_path: Path, registry: Registry) -> None:
    files = [row["file"] for row in blobs(tmp_path, 2)[::2]]
    rows = [{"blob": file, "transcript": text} for file, text in zip(files, ["车站", "火车"], strict=True)]
    manifest = prepare_table(job(registry, write(tmp_path / "t.csv", rows), "spell"), registry)
    assert manifest.targets == {"transcript": sorted("火车站")}
    assert [sample["transcript"] for sample in PreparedSet.open(tmp_path / "set").split("train")] == ["车站", "火车"]


def test_units_are_numbers_from_0_up(tmp_path: Path, registry: Registry) -> None:
    rows = [{"blob": f"files/{number}.toy", "units": units} for number, units in enumerate(["0 2", "3 1", "-1", "x"])]
    blobs(tmp_path, 4)
    manifest = prepare_table(job(registry, write(tmp_path / "t.csv", rows), "guess"), registry)
    assert manifest.targets == {"units": ["0", "1", "2", "3"]}
    assert [sample["units"] for sample in PreparedSet.open(tmp_path / "set").split("train")] == [[0, 2], [3, 1]]
    assert [entry.why for entry in left_out(tmp_path / "set")] == ["damaged", "damaged"]


def test_functions_keep_their_indentation_and_gather_their_descriptions(tmp_path: Path, registry: Registry) -> None:
    code = "    def f():\n        return 1\n"
    rows = [{"lines": code, "words": "甲"}, {"lines": code, "words": ["乙", "甲", " "]}]
    prepare_table(job(registry, write(tmp_path / "t.jsonl", rows), "find-lines"), registry)
    (sample,) = PreparedSet.open(tmp_path / "set").split("train")
    assert sample == {"id": "row 1", "lines": code.rstrip("\n"), "words": ["甲", "乙"]}


def test_a_column_may_name_the_splits_and_another_the_ids(tmp_path: Path, registry: Registry) -> None:
    parts = ["train", "test", "", "train"]
    rows = [{"words": f"{n}", "label": "x", "part": part, "key": f"k{n}"} for n, part in enumerate(parts)]
    rows.append({"words": "0", "label": "x", "part": "test", "key": "k4"})
    rows.append({"words": "9", "label": "x", "part": "train", "key": "k0"})
    table = write(tmp_path / "t.csv", rows)
    prepare_table(job(registry, table, "sort", split_column="part", columns={"id": "key"}), registry)
    opened = PreparedSet.open(tmp_path / "set")
    assert [sample["id"] for sample in opened.split("train")] == ["k0", "k3"]
    assert [sample["id"] for sample in opened.split("test")] == ["k1"]
    assert {entry.id: entry.why for entry in left_out(tmp_path / "set")} == {
        "row 3": "damaged", "row 5": "duplicate", "k0": "duplicate",
    }  # fmt: skip


def test_fractions_are_dealt_out_by_the_seed(tmp_path: Path, registry: Registry) -> None:
    table = write(tmp_path / "t.csv", [{"words": f"{number}", "label": "x"} for number in range(100)])
    fractions = {"train": 0.7, "dev": 0.1, "test": 0.2}

    def dealt(seed: int) -> dict[str, list[str]]:
        prepare_table(job(registry, table, "sort", fractions=fractions, seed=seed), registry)
        opened = PreparedSet.open(tmp_path / "set")
        return {name: [sample["id"] for sample in opened.split(name)] for name in fractions}

    first = dealt(1)
    assert {name: len(ids) for name, ids in first.items()} == {"train": 70, "dev": 10, "test": 20}
    assert Counter(id for ids in first.values() for id in ids) == {f"row {number}": 1 for number in range(1, 101)}
    assert dealt(1) == first and dealt(2) != first


def test_a_limit_bounds_each_split(tmp_path: Path, registry: Registry) -> None:
    table = write(tmp_path / "t.csv", [{"words": f"{number}", "label": f"l{number}"} for number in range(10)])
    manifest = prepare_table(job(registry, table, "sort", limit=3), registry)
    assert manifest.splits["train"].items == 3 and manifest.ledger["filtered"] == 7
    assert manifest.targets == {"label": ["l0", "l1", "l2"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": {"wrods": "caption"}}, "task 'find' has no field 'wrods': did you mean 'words'?"),
        ({"columns": {**COLUMNS, "words": "captions"}}, "no column 'captions' for the field 'words': did you mean 'ca"),
        ({"columns": {"words": "caption"}}, "no column 'blob' for the field 'blob'"),
        ({"columns": COLUMNS, "split_column": "part"}, "no column 'part': it has file, caption"),
        ({"columns": COLUMNS, "fractions": {"train": 0.5}}, "must be positive and sum to 1, not train=0.5"),
        ({"columns": COLUMNS, "fractions": {"train": nan}}, "must be positive and sum to 1, not train=nan"),
        ({"columns": COLUMNS, "fractions": {"train": 1.5, "dev": -0.5}}, "must be positive"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(
    tmp_path: Path, registry: Registry, settings: dict, message: str
) -> None:
    table = write(tmp_path / "t.csv", blobs(tmp_path, 1))
    with pytest.raises(UserError) as error:
        prepare_table(job(registry, table, "find", **settings), registry)
    assert message in str(error.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"\xff\xff,label\nx,y\n", "its header is not text"),
        ("t.parquet", b"PAR1 no", "not a valid .parquet file"),
        ("t.csv", b"words,words\n1,2\n", "the same name"),
        ("t.xlsx", b"", r"must end in \.csv, \.tsv, \.json, \.jsonl, \.parquet"),
    ],
)
def test_tables_that_cannot_be_read(
    tmp_path: Path, registry: Registry, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepare_table(job(registry, tmp_path / name, "sort"), registry)


def test_a_missing_table_and_one_without_rows(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(UserError, match="No such file"):
        prepare_table(job(registry, tmp_path / "nowhere.csv", "sort"), registry)
    for content in ("", "words,label\n"):
        (tmp_path / "t.csv").write_text(content)
        with pytest.raises(UserError, match="holds no items"):
            prepare_table(job(registry, tmp_path / "t.csv", "sort"), registry)


def test_a_table_of_nothing_but_damage_fails(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "t.csv").write_text("words,label\n1\n2\n")
    with pytest.raises(FailedJob, match="2 damaged"):
        prepare_table(job(registry, tmp_path / "t.csv", "sort"), registry)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "t.csv").write_text("\ufeffwords,label\n3,x\n", encoding="utf-8")
    assert prepare_table(job(registry, tmp_path / "t.csv", "sort"), registry).ledger["kept"] == 1


class Spelling(Ctc):
    """An objective that a plugin brings."""


def test_a_plugins_own_objective_says_what_its_target_is_made_of(tmp_path: Path, registry: Registry) -> None:
    own = Task("say", (("blob",),), "tests.prepare.test_table:Spelling", "transcript")
    blob = Plugin("own", "own", "1", modalities=(registry.modality("blob"),), tasks=(own,))
    files = sorted({row["file"] for row in blobs(tmp_path, 2)})
    rows = [{"blob": file, "transcript": text} for file, text in zip(files, ["车站", "火车"], strict=True)]
    theirs = build_registry([blob])
    manifest = prepare_table(job(theirs, write(tmp_path / "own.csv", rows), "say"), theirs)
    assert manifest.targets == {"transcript": sorted("火车站")}
