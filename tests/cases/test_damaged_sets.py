"""Prepared sets from elsewhere: whatever is wrong with any of their files is one line, in bounded memory and time."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.cli.app import run
from skillnet_cli.cli.prepare.common import summary
from skillnet_cli.data.overlap import Part, find_overlaps, kinds_to_compare
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.data.survey import picked, survey
from skillnet_cli.data.verify import verify
from skillnet_cli.prepare.writer import SetWriter

MOST_MEMORY = 64 << 20
BRACKETS = b"[" * 20_000
ODD: list[Any] = [
    -1, 0, 1, 10**6, 10**18, 10**30, 1.5, 1e308, "", "x" * 1000, "../../../etc/passwd", "/etc/passwd", "a/b", ".", "..",
    None, True, [], {}, [[]], {"a": 1}, "\x1b[31m", "train-000000.tar", "0" * 64,
]  # fmt: skip


def make(folder: Path, name: str = "set") -> Path:
    with SetWriter(folder / name, name="set", licence="MIT", shard_items=4) as writer:
        for number in range(10):
            media = {"blob": (bytes([number]) * 700, ".bin")}
            fields = {"text": [f"第{number}句"], "label": "ab"[number % 2], "units": [1, 2, number]}
            writer.keep("train" if number < 7 else "test", f"id {number}", fields, media)
        writer.reject("train", "id x", "damaged", "no")
        writer.finish({"label": ["a", "b"]})
    return folder / name


def read_all(folder: Path) -> None:
    """All that training, evaluation and embedding read of a set."""
    prepared = PreparedSet.open(folder)
    for name in prepared.manifest.splits:
        split = prepared.split(name)
        for place in range(len(split)):
            split[place]


def show(folder: Path) -> None:
    """As ``data show`` does."""
    prepared = PreparedSet.open(folder)
    for name in prepared.manifest.splits:
        split = prepared.split(name)
        survey(split)
        assert all(split[place]["id"] for place in picked(split, 2, 0))
    assert summary(prepared)


def compare(folder: Path) -> None:
    """As ``data overlap --splits`` does."""
    prepared = PreparedSet.open(folder)
    parts = Part.all_of(prepared, "set", None, apart=True)
    find_overlaps(parts, kinds_to_compare([prepared], ["text"], []))


def check_all(folder: Path) -> None:
    """As ``data verify`` does."""
    faults = list(verify(folder))
    assert all("\n" not in str(fault) for fault in faults)
    if faults:
        raise FailedJob("damaged: see 'skillnet data verify'")


def outcomes(folder: Path) -> list[int]:
    """The exit codes of what reads sets; anything but one line and its code is an error of this test."""
    return [_code(each, folder) for each in (read_all, show, check_all, compare)]


def _code(read: Callable[[Path], None], folder: Path) -> int:
    try:
        read(folder)
    except UserError as error:
        assert "\n" not in str(error)
        return 2
    except FailedJob as error:
        assert "skillnet data verify" in str(error) and "\n" not in str(error)
        return 1
    return 0


def mutated(content: bytes, draw: random.Random) -> bytes:
    """A content, altered in one of the ways in which files are damaged or forged."""
    place = draw.randrange(len(content) + 1)
    kind = draw.randrange(8)
    if kind <= 2:
        altered = bytearray(content)
        for _ in range(draw.choice([1, 1, 2, 8])):
            altered[draw.randrange(len(altered))] ^= 1 << draw.randrange(8)
        return bytes(altered)
    if kind == 3:
        return content[:place]
    if kind == 4:
        return content[:place] + draw.randbytes(draw.choice([1, 100, 2000])) + content[place:]
    if kind == 5:
        digits = [at for at, each in enumerate(content) if 48 <= each <= 57][:400]
        altered = bytearray(content)
        for at in draw.sample(digits, min(len(digits), 3)):
            altered[at] = draw.choice(b"0123456789-e.")
        return bytes(altered)
    return BRACKETS if kind == 6 else content[:place] + BRACKETS + content[place:]


def forged(document: Any, draw: random.Random) -> Any:
    """A JSON document with one value replaced by an odd one."""
    if isinstance(document, dict) and document and draw.random() < 0.9:
        key = draw.choice(list(document))
        return {**document, key: forged(document[key], draw)}
    if isinstance(document, list) and document and draw.random() < 0.9:
        place = draw.randrange(len(document))
        return [*document[:place], forged(document[place], draw), *document[place + 1 :]]
    return draw.choice(ODD)


def restate(folder: Path) -> None:
    """Have the manifest state what the files are now, as a forger would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for split in manifest["splits"].values():
        for shard in split["shards"]:
            path = folder / shard["file"]
            tables = path.with_suffix(".index.npy"), path.with_suffix(".crc32.npy")
            for key, each in zip(("sha256", "index_sha256", "crc32_sha256"), (path, *tables), strict=True):
                shard[key] = hashlib.sha256(each.read_bytes()).hexdigest()
            shard["bytes"] = path.stat().st_size
    manifest["ledger_sha256"] = hashlib.sha256((folder / "ledger.jsonl").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def check(sound: Path, folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    shutil.copytree(sound, folder)
    path = draw.choice(sorted(folder.iterdir()))
    if path.name == "manifest.json" and draw.random() < 0.6:
        path.write_text(json.dumps(forged(json.loads(path.read_text()), draw)))
    else:
        path.write_bytes(mutated(path.read_bytes(), draw))
    if path.name != "manifest.json" and draw.random() < 0.5:
        restate(folder)
    tracemalloc.start()
    try:
        found = outcomes(folder)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY, (seed, path.name)
    finally:
        tracemalloc.stop()
    assert set(found) <= {0, 1, 2}, (seed, path.name, found)
    shutil.rmtree(folder)


def test_s06_no_damage_to_any_file_of_a_set_is_more_than_a_line(tmp_path: Path) -> None:
    sound = make(tmp_path)
    assert outcomes(sound)[:3] == [0, 0, 0]
    for seed in range(100):
        check(sound, tmp_path / f"set{seed}", seed)


@pytest.mark.soak
def test_s06_no_damage_to_any_file_of_a_set_is_more_than_a_line_for_long(tmp_path: Path) -> None:
    sound = make(tmp_path)
    for seed in range(1_000, 6_000):
        check(sound, tmp_path / f"set{seed}", seed)


def header(description: str) -> bytes:
    text = description.encode()
    padded = text + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


TABLES: dict[str, bytes] = {
    "nothing": b"",
    "no header": b"\x93NUMPY\x01\x00",
    "a huge shape": header("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"),
    "a huge matrix": header("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
    "objects": header("{'descr': '|O', 'fortran_order': False, 'shape': (5,), }") + bytes(40),
    "brackets": header("[" * 9_000),
    "a call": header("{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (5,), }"),
    "offsets below 0": header("{'descr': '<i8', 'fortran_order': False, 'shape': (5,), }")
    + np.array([0, -1, -2, -3, -4], "<i8").tobytes(),
    "offsets beyond the shard": header("{'descr': '<i8', 'fortran_order': False, 'shape': (5,), }")
    + np.array([0, 1 << 20, 1 << 40, 1 << 61, 1 << 62], "<i8").tobytes(),
    "offsets that overlap": header("{'descr': '<i8', 'fortran_order': False, 'shape': (5,), }")
    + np.array([0, 2048, 1024, 4096, 8192], "<i8").tobytes(),
}


@pytest.mark.parametrize("what", TABLES)
def test_s06_a_forged_table_costs_nothing(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its checksum is right, so only what it says can tell."""
    folder = make(tmp_path)
    (folder / "train-000000.index.npy").write_bytes(TABLES[what])
    restate(folder)
    tracemalloc.start()
    assert outcomes(folder) == [1, 1, 1, 1]
    assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    tracemalloc.stop()
    assert run(["data", "show", str(folder)]) == 1
    assert "train-000000.index.npy" in capsys.readouterr().err


def _members(folder: Path, alter: Callable[[bytes], bytes]) -> None:
    """Alter the bytes of the first sample, and state its checksum."""
    import zlib

    shard = folder / "train-000000.tar"
    offsets = np.load(folder / "train-000000.index.npy")
    checks = np.load(folder / "train-000000.crc32.npy")
    content = shard.read_bytes()
    region = alter(content[: offsets[1]])
    assert len(region) == offsets[1]
    shard.write_bytes(region + content[offsets[1] :])
    checks[0] = zlib.crc32(region)
    np.save(folder / "train-000000.crc32.npy", checks)
    restate(folder)


def _record(text: str) -> Callable[[bytes], bytes]:
    """The first member's content, which is the record, replaced by another of at most a block."""

    def alter(region: bytes) -> bytes:
        content = text.encode()[:512]
        return (
            region[:124]
            + f"{len(content):011o}\0".encode()
            + region[136:512]
            + content.ljust(512, b"\0")
            + region[1024:]
        )

    return alter


SAMPLES: dict[str, Callable[[bytes], bytes]] = {
    "a record that is a list": _record("[1, 2]"),
    "a record of brackets": _record("[" * 500),
    "a record without an id": _record('{"text": ["a"], "label": "a", "units": [1]}'),
    "an id that is a number": _record('{"id": 1, "text": ["a"], "label": "a", "units": [1]}'),
    "a text that is a number": _record('{"id": "a", "text": 1, "label": "a", "units": [1]}'),
    "a label that is a list": _record('{"id": "a", "text": ["a"], "label": [1], "units": [1]}'),
    "units that are words": _record('{"id": "a", "text": ["a"], "label": "a", "units": ["x"]}'),
    "no field": _record('{"id": "a"}'),
    "no finite number": _record('{"id": "a", "text": ["a"], "label": "a", "units": [1e999]}'),
    "a size below 0": lambda region: region[:124] + b"-0000000001\0" + region[136:],
    "a size of exabytes": lambda region: region[:124] + b"77777777777\0" + region[136:],
    "no size": lambda region: region[:124] + b"xxxxxxxxxxx\0" + region[136:],
    "no name": lambda region: bytes(100) + region[100:],
    "a name that is no text": lambda region: b"\xff" * 100 + region[100:],
}


@pytest.mark.parametrize("what", SAMPLES)
def test_s06_a_forged_sample_is_one_line(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path)
    _members(folder, SAMPLES[what])
    with pytest.raises(FailedJob, match=r"train-000000.tar: altered or damaged \(sample 0"):
        read_all(folder)
    assert outcomes(folder) in ([1, 1, 1, 1], [1, 1, 0, 1])


@pytest.mark.parametrize("name", ["train-000000.tar", "train-000000.index.npy", "ledger.jsonl", "assets/vocab.txt"])
def test_s06_a_link_out_of_the_set_is_not_followed(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path)
    (folder / "assets").mkdir()
    (folder / "assets" / "vocab.txt").write_bytes(b"a\n")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["assets"] = {"vocab.txt": hashlib.sha256(b"a\n").hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert run(["data", "verify", str(folder)]) == 0
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    capsys.readouterr()
    assert run(["data", "verify", str(folder)]) == 1
    assert "leads out of the set's folder" in capsys.readouterr().out
    if name.startswith("train"):
        with pytest.raises(FailedJob, match="leads out of the set's folder"):
            read_all(folder)


def test_s06_a_set_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "set")
    read_all(tmp_path / "link")
    assert run(["data", "verify", str(tmp_path / "link")]) == 0


@pytest.mark.parametrize("name", ["train-000000.tar", "train-000000.index.npy", "ledger.jsonl", "manifest.json"])
def test_s06_a_named_pipe_in_place_of_a_file_does_not_block(name: str, tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert run(["data", "verify", str(folder)]) in (1, 2)
    if name != "ledger.jsonl":
        assert run(["data", "show", str(folder)]) in (1, 2)


def test_s05_brackets_in_what_a_set_in_the_making_keeps_are_one_line(tmp_path: Path) -> None:
    from skillnet_cli.prepare.part import Part as PreparedPart
    from skillnet_cli.prepare.preparer import Share
    from skillnet_cli.prepare.workdir import WorkFolder
    from tests.prepare.preparers import job
    from tests.prepare.test_run import ANY, prepare, script, script_of

    source = script_of(tmp_path, script(4, 4)[:3])
    prepare("Scripted", job(source, tmp_path / "set", share=Share(1, 2), tolerance=ANY))
    work, altered = WorkFolder(tmp_path / "set"), 0
    for path in sorted(work.folder.rglob("*")):
        if not path.is_file() or path.suffix == ".tar" or path.name.startswith(("lock", "begun")):
            continue
        before, altered = path.read_bytes(), altered + 1
        for content in (BRACKETS, b"", before[: len(before) // 2], b"\x93NUMPY\x01\x00" + BRACKETS):
            path.write_bytes(content)
            try:
                work.read_plan()
                part = PreparedPart.open(tmp_path / "set", int(path.parent.name) if "parts" in path.parts else 0)
                assert part
                part.inputs(), list(part.rows()), part.kept(), part.keys(), list(part.samples())
                work.asked()
            except FailedJob as error:
                assert "\n" not in str(error) and str(path.name).split(".")[0] in str(error)
            else:
                assert path.name == "rows.jsonl" and content in (b"", before[: len(before) // 2]), path
        path.write_bytes(before)
    assert altered >= 8
    prepare("Scripted", job(source, tmp_path / "set", tolerance=ANY))
