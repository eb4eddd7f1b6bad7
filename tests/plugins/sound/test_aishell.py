"""``aishell`` in its publisher's layout: every recording and every transcript is accounted for."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from tests.kills import killed_and_resumed
from tests.plugins.sound.corpora import (
    aishell,
    aishell_tree,
    broken_recordings,
    laid_out,
    packed,
    prepare,
    wav,
)

PACKS = os.environ.get("SKILLNET_TEST_PACKS")
SPEAKERS = {"S0002": "train", "S0003": "train", "S0724": "dev", "S0764": "test"}


def rows(folder: Path) -> list[tuple[str, str, str, str]]:
    return [(row.split, row.id, row.why, row.reason) for row in read_ledger(folder)]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    tree = aishell_tree(*aishell(SPEAKERS))
    (tmp_path / "data_aishell.tgz").write_bytes(packed(tree))
    return tmp_path / "data_aishell.tgz"


def test_the_published_archive(published: Path, tmp_path: Path) -> None:
    recordings, lines = aishell(SPEAKERS)
    made = prepare("aishell", published, tmp_path / "set")
    assert {split: facts.items for split, facts in made.manifest.splits.items()} == {"dev": 3, "test": 3, "train": 6}
    assert made.manifest.ledger["kept"] == 12 == sum(made.manifest.ledger.values())
    texts = dict(line.split(" ", 1) for line in lines)
    for path, content in recordings.items():
        split, _, name = path.split("/")
        sample = next(each for each in made.split(split) if each["id"] == name.removesuffix(".wav"))
        assert sample["sound"] == content and sample["transcript"] == texts[sample["id"]].replace(" ", "")
    spelt = sorted({each for line in lines[:6] for each in line.split(" ", 1)[1]} - {" "})
    assert made.manifest.targets == {"transcript": spelt}
    assert (tmp_path / "set" / "assets" / "vocab.txt").read_text().split() == spelt
    assert made.manifest.choices["split"] == "official", "four speakers are not the whole set"
    assert made.manifest.choices["hours"] == {"dev": 0.0, "test": 0.0, "train": 0.0}


def test_the_unpacked_tree_and_the_folder_of_downloads_are_as_good(published: Path, tmp_path: Path) -> None:
    recordings, lines = aishell(SPEAKERS)
    transcript = "".join(f"{line}\n" for line in lines).encode()
    unpacked = {f"wav/{path}": content for path, content in recordings.items()}
    laid_out(tmp_path / "data_aishell", {**unpacked, "transcript/aishell_transcript_v0.8.txt": transcript})
    (tmp_path / "downloads").mkdir()
    shutil.copy(published, tmp_path / "downloads")
    (tmp_path / "downloads" / "resource_aishell.tgz").write_bytes(packed({"resource_aishell/lexicon.txt": b"x"}))
    whole = prepare("aishell", published, tmp_path / "set").manifest.splits
    assert prepare("aishell", tmp_path / "data_aishell", tmp_path / "a").manifest.splits["dev"].items == 3
    assert prepare("aishell", tmp_path / "downloads", tmp_path / "b", workers=2).manifest.splits == whole
    for split in ("train", "dev", "test"):
        sets = [PreparedSet.open(tmp_path / name).split(split) for name in ("set", "a")]
        one, other = ({each["id"]: each for each in there} for there in sets)
        assert one == other


def test_everything_that_can_be_wrong_has_its_row(tmp_path: Path) -> None:
    recordings, lines = aishell({"S0002": "train", "S0764": "test"}, each=2)
    train, test = "train/S0002/BAC009S0002W", "test/S0764/BAC009S0764W"
    recordings |= {
        f"{train}0301.wav": wav(20.1),
        f"{train}0302.wav": wav(0.4),
        f"{train}0303.wav": wav(0.4),
        f"{train}0304.wav": wav(0.01),
        f"{train}0305.wav": wav(0.4)[:-100],
        f"{train}0306.wav": b"",
        f"{train}0307.wav": wav(0.4),
        "train/S0002/again/BAC009S0002W0121.wav": wav(0.4),
        f"{test}0301.wav": wav(20.0),
    }
    lines += [
        "BAC009S0002W0301 太长了",
        "BAC009S0002W0303 " + "一" * 20,
        "BAC009S0002W0304 一",
        "BAC009S0002W0305 一",
        "BAC009S0002W0306 一",
        "BAC009S0002W0307",
        "",
        "BAC009S0002W0901 录音没有了",
        "BAC009S0002W0121 第二次",
        "BAC009S0764W0301 刚刚好",
        "BAC009S0005W0121 整个人没有了",
    ]
    tree = aishell_tree(recordings, lines)
    tree["data_aishell/transcript/aishell_transcript_v0.8.txt"] += b"BAC009S0764W0401 \xff\xff\n"
    tree["data_aishell/wav/S0900.tar.gz"] = b"\x1f\x8bno archive"
    tree["data_aishell/wav/S0901.tar.gz"] = packed({"../../evil.wav": wav(0.4), "test/S0901/stray.wav": b""})
    laid_out(tmp_path / "source", tree)
    made = prepare("aishell", tmp_path / "source", tmp_path / "set")
    left_out = [row for row in rows(tmp_path / "set") if row[2] != "kept"]
    unavailable, no_recording = "unavailable", "there is no recording of it"
    assert left_out[:9] == [
        ("train", "BAC009S0002W0301", "filtered", "longer than 20 seconds"),
        ("train", "BAC009S0002W0302", unavailable, "there is no transcript of it"),
        ("train", "BAC009S0002W0303", "filtered", "19 frames are too few for a transcript that needs 39"),
        ("train", "BAC009S0002W0304", "filtered", "0 frames are too few for a transcript that needs 1"),
        ("train", "BAC009S0002W0305", "damaged", "breaks off after 0.4 seconds"),
        ("train", "BAC009S0002W0306", "damaged", "the file is empty"),
        ("train", "BAC009S0002W0307", "damaged", "its transcript is empty"),
        ("train", "BAC009S0002W0121", "duplicate", "another item has this id"),
        ("", "BAC009S0002W0901", unavailable, no_recording),
    ]
    assert [(row[1], row[2]) for row in left_out[9:]] == [
        ("data_aishell/wav/S0900.tar.gz", "damaged"),
        ("stray", unavailable),
        ("data_aishell/wav/S0901.tar.gz/../../evil.wav", "damaged"),
        ("BAC009S0002W0121", "duplicate"),
        ("data_aishell/transcript/aishell_transcript_v0.8.txt, line 16", "damaged"),
        ("BAC009S0005W0121", unavailable),
    ]
    assert [each["id"][-4:] for each in made.split("test")] == ["0121", "0122", "0301"]


def test_a_broken_archive_gives_what_is_before_the_break(tmp_path: Path) -> None:
    recordings, lines = aishell({"S0002": "train"}, each=6, seconds=1)
    tree = aishell_tree(recordings, lines)
    whole = tree["data_aishell/wav/S0002.tar.gz"]
    tree["data_aishell/wav/S0002.tar.gz"] = whole[: len(whole) * 2 // 3]
    made = prepare("aishell", laid_out(tmp_path / "source", tree), tmp_path / "set")
    counts = made.manifest.ledger
    assert 1 <= counts["kept"] <= 4 and counts["damaged"] in (1, 2)
    found = {row[1] for row in rows(tmp_path / "set")}
    assert {line.split()[0] for line in lines} <= found, "every transcript is accounted for"


def test_recordings_that_are_none_are_damaged(tmp_path: Path) -> None:
    recordings, lines = aishell({"S0002": "train"}, each=4)
    broken = {name: content for name, content in broken_recordings().items() if name.endswith(".wav")}
    assert len(broken) >= 15
    names = [f"BAC009S0002W{500 + number:04d}" for number in range(len(broken))]
    recordings |= {f"train/S0002/{name}.wav": content for name, content in zip(names, broken.values(), strict=True)}
    tree = aishell_tree(recordings, lines + [f"{name} 一" for name in names])
    made = prepare("aishell", laid_out(tmp_path / "source", tree), tmp_path / "set")
    assert made.manifest.ledger == {"kept": 4, "filtered": 0, "duplicate": 0, "unavailable": 0, "damaged": len(broken)}


def test_a_vocabulary_of_ones_own(published: Path, tmp_path: Path) -> None:
    (tmp_path / "lang_char.txt").write_text(
        "<blank> 0\n<unk> 1\n广 2\n州 3\n市 4\n房 5\n地 6\n产 7\n中 8\n介 9\n呼 10\n救 11\n"
    )
    made = prepare("aishell", published, tmp_path / "set", options={"vocab": tmp_path / "lang_char.txt"})
    assert made.manifest.targets == {"transcript": list("广州市房地产中介呼救")}
    filtered = next(row[2:] for row in rows(tmp_path / "set") if row[0] == "train" and row[2] == "filtered")
    assert filtered == ("filtered", "'报警' is not in the vocabulary")
    assert made.manifest.splits["dev"].items == 3, "what is measured on stays"
    with pytest.raises(UserError, match="it lists no characters"):
        (tmp_path / "none.txt").write_text("<blank>\n")
        prepare("aishell", published, tmp_path / "other", options={"vocab": tmp_path / "none.txt"})


def test_a_limit_reads_no_more_than_it_needs(published: Path, tmp_path: Path) -> None:
    made = prepare("aishell", published, tmp_path / "set", limit=2)
    assert {split: facts.items for split, facts in made.manifest.splits.items()} == {"dev": 2, "test": 2, "train": 2}
    assert not [row for row in rows(tmp_path / "set") if "S0003" in row[1]]


def test_a_source_without_recordings_says_so(tmp_path: Path) -> None:
    laid_out(tmp_path / "source", {"readme.txt": b"nothing"})
    with pytest.raises(UserError, match="source: no recordings of AISHELL-1 found: check --source"):
        prepare("aishell", tmp_path / "source", tmp_path / "set")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many tiny recordings of many speakers, as published."""
    speakers = {
        f"S{number:04d}": "train" if number < 50 else "dev" if number < 55 else "test" for number in range(2, 62)
    }
    recordings, lines = aishell(speakers, each=12, seconds=0.3)
    path = tmp_path_factory.mktemp("large") / "data_aishell.tgz"
    path.write_bytes(packed(aishell_tree(recordings, [*lines, "BAC009S0777W0001 没有录音"]), "w:gz"))
    return path


@pytest.mark.soak
def test_twenty_kills_leave_no_trace(large: Path, tmp_path: Path) -> None:
    prepare("aishell", large, tmp_path / "whole")
    call = "from skillnet_cli.cli import main; main()"
    options = ["--source", str(large), "--out", str(tmp_path / "set"), "--workers", "2"]
    command = [sys.executable, "-c", call, "prepare", "aishell", *options]
    killed_and_resumed(command, tmp_path / "set", kills=20, longest=1.5)
    assert files(tmp_path / "set") == files(tmp_path / "whole")


@pytest.mark.skipif(not PACKS, reason="SKILLNET_TEST_PACKS names no folder with speech/data_aishell_sample.tgz")
def test_the_real_pack(tmp_path: Path) -> None:
    made = prepare("aishell", Path(PACKS or "") / "speech" / "data_aishell_sample.tgz", tmp_path / "set")
    (sample,) = made.split("test")
    assert sample["id"] == "BAC009S0724W0121" and sample["transcript"] == "广州市房地产中介协会分析"
    assert len(sample["sound"]) == 137_036
    assert made.manifest.ledger == {"kept": 1, "filtered": 0, "duplicate": 0, "unavailable": 21_501, "damaged": 0}
