"""Writing sets: the same bytes for the same input, and nothing that looks whole before it is."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.prepare.writer import SetWriter
from tests.sets import MakeSet


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_same_input_makes_the_same_bytes(make_set: MakeSet) -> None:
    first = contents(make_set().path)
    assert contents(make_set().path) == first
    assert contents(make_set(items=24).path) != first


def test_a_set_is_its_shards_tables_manifest_and_ledger(make_set: MakeSet) -> None:
    made = make_set(items=25, shard_items=10)
    stems = ["train-000000", "train-000001", "train-000002", "validation-000000"]
    tables = {f"{stem}{suffix}" for stem in stems for suffix in (".tar", ".index.npy", ".crc32.npy")}
    assert set(contents(made.path)) == {"manifest.json", "ledger.jsonl", *tables}


def test_the_manifest_says_what_is_there(make_set: MakeSet) -> None:
    made = make_set()
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["splits"]["train"]["items"] == 25
    assert manifest["fields"] == {"blob": "bytes .toy", "label": "text", "words": "texts"}
    assert manifest["targets"] == {"label": ["even", "odd"]}
    for split in manifest["splits"].values():
        for shard in split["shards"]:
            assert hashlib.sha256((made.path / shard["file"]).read_bytes()).hexdigest() == shard["sha256"]


def test_every_item_that_came_in_is_in_the_ledger(tmp_path: Path) -> None:
    with SetWriter(tmp_path / "set", name="x", licence="MIT") as writer:
        assert writer.keep("train", "a", {"words": ["1"]})
        assert not writer.keep("train", "a", {"words": ["2"]})
        assert writer.keep("test", "a", {"words": ["3"]})
        writer.reject("train", "b", "filtered", "too short")
        writer.reject("train", "c", "damaged", "<Reader object at 0x7fdd> failed")
        manifest = writer.finish()
    rows = list(read_ledger(tmp_path / "set"))
    assert [(row.split, row.id, row.why) for row in rows] == [
        ("train", "a", "kept"),
        ("train", "a", "duplicate"),
        ("test", "a", "kept"),
        ("train", "b", "filtered"),
        ("train", "c", "damaged"),
    ]
    assert manifest.ledger == {"kept": 2, "filtered": 1, "duplicate": 1, "unavailable": 0, "damaged": 1}
    assert rows[-1].reason == "<Reader object> failed", "an address would make the bytes differ"
    assert [sample["words"] for sample in PreparedSet.open(tmp_path / "set").split("train")] == [["1"]]


def test_a_set_without_a_manifest_is_unfinished(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), SetWriter(tmp_path / "set", name="x", licence="MIT") as writer:
        writer.keep("train", "a", {"words": ["1"]})
        raise KeyboardInterrupt
    with pytest.raises(UserError, match="unfinished set: run prepare again"):
        PreparedSet.open(tmp_path / "set")


KILLED = """
import os, signal, sys
from pathlib import Path
from skillnet_cli.prepare.writer import SetWriter
writer = SetWriter(Path(sys.argv[1]), name="x", licence="MIT", shard_items=2)
for number in range(5):
    writer.keep("train", str(number), {"words": ["new"]})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_over_an_older_set_leaves_nothing_that_looks_whole(make_set: MakeSet) -> None:
    older = make_set()
    done = subprocess.run([sys.executable, "-c", KILLED, str(older.path)], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(UserError, match="unfinished"):
        PreparedSet.open(older.path)
    assert len(make_set().split("train")) == 25, "and preparing again mends it"


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(UserError, match=r"holds 'thesis.tex'.*--out"):
        SetWriter(tmp_path, name="x", licence="MIT")
    assert (tmp_path / "thesis.tex").read_text() == "do not lose me"


def test_a_full_disk_is_one_line_and_no_set(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        writer = SetWriter(tmp_path / "set", name="x", licence="")
        with pytest.raises(FailedJob, match=r"train-000000.tar cannot be written: File too large"), writer:
            for number in range(100):
                writer.keep("train", str(number), {}, {"blob": (bytes(10_000), ".toy")})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with pytest.raises(UserError, match="unfinished"):
        PreparedSet.open(tmp_path / "set")


def test_a_file_where_the_folder_should_be_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("")
    with pytest.raises(UserError, match="--out"):
        SetWriter(tmp_path / "set", name="x", licence="MIT")


def test_a_source_without_items_makes_no_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no items"), SetWriter(tmp_path / "set", name="x", licence="") as writer:
        writer.finish()
    with pytest.raises(UserError, match="unfinished"):
        PreparedSet.open(tmp_path / "set")


def test_a_source_of_damaged_items_fails_with_their_number(tmp_path: Path) -> None:
    writer = SetWriter(tmp_path / "s", name="x", licence="")
    with pytest.raises(FailedJob, match=r"2 damaged.*ledger"), writer:
        writer.reject("train", "a", "damaged", "no")
        writer.reject("train", "b", "damaged", "no")
        writer.finish()
    assert len(list(read_ledger(tmp_path / "s"))) == 2


@pytest.mark.parametrize("fields", [{"words": ["\ud800"]}, {"number": float("nan")}])
def test_what_cannot_be_stored_is_a_damaged_item_and_the_set_stays_sound(tmp_path: Path, fields: dict) -> None:
    with SetWriter(tmp_path / "set", name="x", licence="") as writer:
        with pytest.raises(DamagedItem, match="cannot be stored"):
            writer.keep("train", "a", fields)
        writer.keep("train", "b", {"words": ["fine"]})
        writer.finish()
    assert [sample["id"] for sample in PreparedSet.open(tmp_path / "set").split("train")] == ["b"]


def test_a_field_has_one_kind(tmp_path: Path) -> None:
    writer = SetWriter(tmp_path / "set", name="x", licence="")
    writer.keep("train", "a", {"words": ["1"]})
    with pytest.raises(ValueError, match="'words' is text here and was texts"):
        writer.keep("train", "b", {"words": "1"})


def test_a_writer_left_without_finish_is_a_mistake_of_the_preparer(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="finish"), SetWriter(tmp_path / "set", name="x", licence="") as writer:
        writer.keep("train", "a", {"words": ["1"]})


def test_a_split_states_the_fields_that_all_its_items_have(tmp_path: Path) -> None:
    with SetWriter(tmp_path / "set", name="x", licence="") as writer:
        writer.keep("train", "a", {"words": ["1"], "label": "x"})
        writer.keep("train", "b", {"words": ["1"]})
        manifest = writer.finish()
    assert manifest.splits["train"].fields == ("words",)
    assert set(manifest.fields) == {"label", "words"}


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "json", "a\\b", "a\0", "a\n/"])
def test_names_that_would_not_come_back_are_refused(tmp_path: Path, name: str) -> None:
    writer = SetWriter(tmp_path / "set", name="x", licence="")
    with pytest.raises(ValueError, match="a name without dots"):
        writer.keep("train", "a", {name: "1"})
    with pytest.raises(ValueError, match="a name without dots"):
        writer.keep(name, "a", {"words": ["1"]})


@pytest.mark.parametrize("suffix", ["", "png", ".", ".p/g", ".png\n"])
def test_suffixes_that_would_not_come_back_are_refused(tmp_path: Path, suffix: str) -> None:
    writer = SetWriter(tmp_path / "set", name="x", licence="")
    with pytest.raises(ValueError, match="suffix"):
        writer.keep("train", "a", {}, {"image": (b"1", suffix)})
