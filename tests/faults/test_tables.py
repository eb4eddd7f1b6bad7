"""``prepare table`` over damaged files, rows and tables: each is one row of the ledger, the rest is kept."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.cli.app import run
from skillnet_cli.data.format import Entry, read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.data.verify import verify
from skillnet_cli.objectives import load
from skillnet_cli.plugins import load_registry
from skillnet_cli.prepare.table import TableJob, prepare_table
from tests.faults.corpus import damaged_files, sound_files

TASKS = {"image": ("t2i", "text"), "sound": ("asr", "transcript"), "video": ("t2v", "text")}


def prepare(table: Path, task: str, **more: Any) -> list[Entry]:
    """Prepare a table; the ledger's rows, once all that must hold of every set does."""
    registry = load_registry()
    feeds = registry.task(task)
    kind = load(feeds.objective, registry).target_kind
    job = TableJob(table, table.parent / "set", feeds, kind, fractions={"train": 1.0}, **more)
    manifest = prepare_table(job, registry)
    rows = list(read_ledger(job.out))
    assert manifest.ledger == {**dict.fromkeys(manifest.ledger, 0), **Counter(row.why for row in rows)}
    assert list(verify(job.out)) == []
    assert all(row.reason.strip() and "\n" not in row.reason for row in rows if row.why != "kept")
    assert [sample["id"] for sample in PreparedSet.open(job.out).split("train")] == [
        row.id for row in rows if row.why == "kept"
    ]
    return rows


@pytest.mark.parametrize("skill", TASKS)
def test_each_damaged_file_is_one_row_and_its_neighbours_stay(skill: str, tmp_path: Path) -> None:
    task, field = TASKS[skill]
    names: dict[str, str] = {}
    for number, (content, suffix) in enumerate(damaged_files()[skill].values()):
        names[f"bad{number}{suffix}"] = "damaged"
        (tmp_path / f"bad{number}{suffix}").write_bytes(content)
    for number, content in enumerate(sound_files()[skill].values()):
        for name in (f"good{number}.png", f"good{number} without a suffix"):
            names[name] = "kept"
            (tmp_path / name).write_bytes(content + bytes(number if skill == "image" else 0))
    (tmp_path / "folder.png").mkdir()
    names |= {"nowhere.jpg": "unavailable", "folder.png": "unavailable", "x" * 300: "unavailable"}
    order = sorted(names, key=lambda name: name[::-1])
    with (tmp_path / "table.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([skill, field])
        rows.writerows([name, f"文字{place}"] for place, name in enumerate(order))
    found = {row.id: row.why for row in prepare(tmp_path / "table.csv", task)}
    assert found == names and len(found) >= 40


BAD_LINES = {
    "half a line": '{"text": "一句',
    "no JSON": "text: 一句",
    "a list": '["一句", "a"]',
    "a number": "1",
    "an object in an object that never ends": '{"a":' * 5000,
    "no text": '{"label": "a"}',
    "an empty text": '{"text": " \\t", "label": "a"}',
    "null": '{"text": null, "label": "a"}',
    "half a surrogate": '{"text": "a\\ud800b", "label": "a"}',
    "half a surrogate for a label": '{"text": "一句", "label": "\\udc00"}',
    "no label": '{"text": "一句话"}',
    "an empty label": '{"text": "一句话", "label": ""}',
    "no number that JSON knows": '{"text": "又一句", "label": NaN}',
    "an object for a label": '{"text": "再一句", "label": {"a": 1}}',
    "a list for a label": '{"text": "再来一句", "label": ["a"]}',
}


def test_each_broken_line_is_one_row_and_its_neighbours_stay(tmp_path: Path) -> None:
    lines = []
    for number, bad in enumerate(BAD_LINES.values()):
        lines += [bad, json.dumps({"text": f"句子{number}", "label": "ab"[number % 2]})]
    (tmp_path / "table.jsonl").write_text("\n".join(lines), encoding="utf-8")
    found = prepare(tmp_path / "table.jsonl", "tc")
    assert len(found) == len(lines) and Counter(row.why for row in found)["kept"] == len(BAD_LINES)
    assert sum(row.why == "damaged" for row in found) == len(BAD_LINES)


def test_each_broken_row_of_a_csv_is_one_row(tmp_path: Path) -> None:
    rows = ["text,label", "一句,a", "只有一格", "一句话,b,还有一格", ",a", "两句,", '"三句",b', '"四句" 多,a', "\x00,a"]
    (tmp_path / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    found = prepare(tmp_path / "table.csv", "tc")
    assert len(found) == len(rows) - 1 and [row.id for row in found if row.why == "kept"][:2] == ["row 1", "row 6"]


def broken_tables() -> dict[str, tuple[str, bytes]]:
    return {
        "empty": ("x.csv", b""),
        "only a header": ("x.csv", b"text,label\n"),
        "of bytes": ("x.csv", bytes(range(256)) * 9),
        "with a column twice": ("x.csv", b"text,text,label\na,b,c\n"),
        "without the column": ("x.csv", b"texts,label\na,b\n"),
        "lines of nothing": ("x.jsonl", b"\n\n\n"),
        "lines that are all broken": ("x.jsonl", b"{\n[\n"),
        "parquet of nothing": ("x.parquet", b""),
        "parquet of noise": ("x.parquet", b"PAR1" + bytes(200) + b"PAR1"),
        "parquet cut in half": ("x.parquet", parquet()[:400]),
        "parquet garbled": ("x.parquet", parquet()[:4] + b"\xff" * 200 + parquet()[204:]),
        "a picture": ("x.csv", sound_files()["image"][".png"]),
        "a spreadsheet": ("x.xlsx", b"PK\x03\x04"),
        "a spreadsheet called csv": ("x.csv", b"PK\x03\x04" + bytes(range(256))),
    }


def parquet() -> bytes:
    import io

    import pyarrow
    from pyarrow import parquet as format

    file = io.BytesIO()
    texts = [f"文字{number}" for number in range(200)]
    format.write_table(pyarrow.table({"text": texts, "label": ["a"] * 200}), file)
    return file.getvalue()


@pytest.mark.parametrize("what", broken_tables())
def test_a_broken_table_is_one_line(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, content = broken_tables()[what]
    (tmp_path / name).write_bytes(content)
    out = tmp_path / "set"
    assert run(["prepare", "table", str(tmp_path / name), "--task", "tc", "--out", str(out)]) in (1, 2)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skillnet: error:")]
    assert len(said) == 1 and said[0].isprintable() and not (out / "manifest.json").exists()


def test_a_table_of_nothing_but_damage_fails_and_says_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("text,image\na,x.png\nb,y.png\n")
    for name in ("x.png", "y.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises((FailedJob, UserError), match="no item could be kept"):
        prepare(tmp_path / "table.csv", "t2i")
