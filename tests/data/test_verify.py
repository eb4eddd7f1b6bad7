"""Every fault of a prepared set is named, with its file and item; a sound set has none."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skillnet_cli.api import UserError
from skillnet_cli.data.format import MANIFEST
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.data.verify import verify
from tests.prepare.preparers import job
from tests.prepare.test_run import ANY, prepare, script, script_of
from tests.sets import MakeSet


@pytest.fixture
def sound(make_set: MakeSet) -> Path:
    """A set of three shards of ``train`` and one of ``validation``."""
    folder = make_set().path
    assert not list(verify(folder))
    return folder


def lines(folder: Path) -> list[str]:
    return [str(fault) for fault in verify(folder)]


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def restate(folder: Path, change: Callable[[dict], None]) -> None:
    """Change the manifest."""
    facts = json.loads((folder / MANIFEST).read_text())
    change(facts)
    (folder / MANIFEST).write_text(json.dumps(facts))


def test_a_flipped_bit_is_reported_with_its_item(sound: Path) -> None:
    offsets = np.load(sound / "train-000001.index.npy")
    flip(sound / "train-000001.tar", int(offsets[4]) - 600)
    what = "altered (checksum mismatch)"
    assert lines(sound) == [f"train-000001.tar: item 'item 13' (number 3): {what}"]


def test_a_damaged_header_leaves_the_number_of_the_item(sound: Path) -> None:
    offsets = np.load(sound / "train-000001.index.npy")
    flip(sound / "train-000001.tar", int(offsets[3]) + 258)
    assert lines(sound) == ["train-000001.tar: item number 3: not a sample (its headers or its JSON are damaged)"]


def test_a_tar_that_breaks_off_says_where(sound: Path) -> None:
    path = sound / "train-000001.tar"
    size, offsets = path.stat().st_size, np.load(sound / "train-000001.index.npy")
    path.write_bytes(path.read_bytes()[: int(offsets[7]) + 5])
    first, second = lines(sound)
    assert first == f"train-000001.tar: has {offsets[7] + 5} bytes instead of {size}"
    assert "item number 7: missing, and so are all after it up to number 9: the file is cut off" in second


def test_altered_ends_missing_files_and_tables(sound: Path) -> None:
    flip(sound / "train-000000.tar", -1)
    (sound / "train-000001.tar").unlink()
    (sound / "train-000002.index.npy").unlink()
    flip(sound / "validation-000000.crc32.npy", -1)
    assert lines(sound) == [
        "train-000000.tar: the last item is not followed by the end of a tar",
        "train-000001.tar: is missing",
        "train-000002.index.npy: is missing",
        "validation-000000.crc32.npy: checksum mismatch",
    ]


def test_a_table_of_another_shard_does_not_pass(sound: Path) -> None:
    """Sums that fit are not enough: the table must fit the tar."""
    wrong = (sound / "train-000000.crc32.npy").read_bytes()
    (sound / "train-000001.crc32.npy").write_bytes(wrong)
    sha256 = hashlib.sha256(wrong).hexdigest()
    restate(sound, lambda facts: facts["splits"]["train"]["shards"][1].update(crc32_sha256=sha256))
    found = lines(sound)
    assert len(found) == 10 and all(line.startswith("train-000001.tar: item 'item 1") for line in found)


def rewrite_ledger(folder: Path, change: Callable[[list[dict]], None]) -> None:
    """Change the ledger's rows, with a checksum that fits."""
    rows = [json.loads(row) for row in (folder / "ledger.jsonl").read_text().splitlines()]
    change(rows)
    content = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "ledger.jsonl").write_text(content)
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    restate(folder, lambda facts: facts.update(ledger_sha256=sha256))


def test_a_ledger_whose_sums_do_not_fit(sound: Path) -> None:
    rewrite_ledger(sound, lambda rows: rows[3].update({"class": "damaged"}))
    assert lines(sound) == [
        "ledger.jsonl: has 25 items 'kept' where the manifest has 26",
        "ledger.jsonl: has 1 items 'damaged' where the manifest has 0",
        "ledger.jsonl: keeps 24 items in 'train' where the split has 25",
        "train-000000.tar: its items are not those that ledger.jsonl keeps",
        "train-000001.tar: its items are not those that ledger.jsonl keeps",
    ]


def test_a_ledger_that_keeps_other_items(sound: Path) -> None:
    rewrite_ledger(sound, lambda rows: rows[12].update(id="another"))
    assert lines(sound) == ["train-000001.tar: its items are not those that ledger.jsonl keeps"]


def test_rows_that_are_none(sound: Path) -> None:
    rewrite_ledger(sound, lambda rows: rows[3].update({"class": "lost", "id": "x"}))
    assert "ledger.jsonl: item x: line 4: 'lost' is not a class of the ledger" in lines(sound)
    rewrite_ledger(sound, lambda rows: rows[3].pop("reason"))
    assert lines(sound) == ["ledger.jsonl: line 4: not a row of a ledger"]
    (sound / "ledger.jsonl").unlink()
    assert lines(sound) == ["ledger.jsonl: is missing"]


def test_a_damaged_manifest_is_a_fault_and_no_set_at_all_a_mistake(sound: Path, tmp_path: Path) -> None:
    (sound / MANIFEST).write_text("{}")
    (fault,) = lines(sound)
    assert fault.startswith("manifest.json: damaged, or of another version")
    (sound / MANIFEST).unlink()
    with pytest.raises(UserError, match="unfinished"):
        lines(sound)
    with pytest.raises(UserError, match="no such prepared set"):
        lines(tmp_path / "nowhere")


def test_fields_and_assets(sound: Path) -> None:
    (sound / "assets").mkdir()
    (sound / "assets" / "a").write_bytes(b"a")
    stated = {"a": hashlib.sha256(b"b").hexdigest(), "b": "0" * 64}

    def change(facts: dict) -> None:
        facts["assets"] = stated
        facts["fields"].pop("label")
        facts["splits"]["validation"]["fields"].append("sound")

    restate(sound, change)
    found = lines(sound)
    assert found[0].endswith("item 'item 0' (number 0): the field 'label' is not in the manifest")
    assert any("the field 'sound', which every item of the split should have, is missing" in line for line in found)
    assert found[-2:] == ["assets/a: checksum mismatch", "assets/b: is missing"]


@pytest.mark.parametrize("seed", range(12))
def test_no_flipped_bit_anywhere_is_overlooked(make_set: MakeSet, seed: int) -> None:
    rng = random.Random(seed)
    folder = make_set(items=12, shard_items=5).path
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    path = files[seed % len(files)]
    flip(path, rng.randrange(path.stat().st_size))
    found = lines(folder)
    names = {path.name, path.name.split(".")[0] + ".tar", "ledger.jsonl"}
    assert found and all(line.split(":")[0] in names for line in found)


@pytest.mark.parametrize("kind", ["Scripted", "Independent"])
def test_what_preparers_make_is_sound(tmp_path: Path, kind: str) -> None:
    """Also where pools are split at random, copies left out and shards moved: the ledger fits the shards."""
    prepare(kind, job(script_of(tmp_path, script()), tmp_path / "set", kind, tolerance=ANY, protocol="paper"))
    assert len(PreparedSet.open(tmp_path / "set").manifest.splits) >= 3
    assert lines(tmp_path / "set") == []
