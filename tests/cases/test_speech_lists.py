"""Lists of transcripts as others write them: names with blanks, commas and bars, the layout of Kaldi."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from skillnet_cli.data.format import read_ledger
from tests.plugins.sound.corpora import laid_out, prepare, wav


def flac(seconds: float, seed: int) -> bytes:
    samples, rate = soundfile.read(io.BytesIO(wav(seconds, seed)), dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC")
    return file.getvalue()


def text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def kept(source: Path, out: Path, split: str = "train") -> dict[str, str]:
    made = prepare("speech-corpus", source, out, options={"task": "asr"})
    return {each["id"]: each["transcript"] for each in made.split(split)} if split in made.manifest.splits else {}


def left_out(out: Path) -> dict[str, tuple[str, str]]:
    return {row.id: (row.why, row.reason) for row in read_ledger(out) if row.why != "kept"}


def recordings(*names: str, **others: bytes) -> dict[str, Any]:
    return {**{name: wav(0.5 + 0.01 * number) for number, name in enumerate(names)}, **others}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("第 1 句.wav", "第 1 句\t你好"),
        ("第 1 句.wav", "第 1 句 你好"),
        ("第 1 句.wav", "第 1 句.wav\t你好"),
        ("第 1 句.wav", "第 1 句,你好"),
        ("a0.wav", "a0,你好"),
        ("a0.wav", "a0.wav, 你好"),
        ("a0.wav", '"a0","你好"'),
        ("a0.wav", "a0|你 好"),
        ("a0.wav", "a0.wav|你好|你好"),
        ("a0.wav", "a0，你好"),
        ("a,b.wav", "a,b 你好"),
        ("s/a 0.wav", "s/a 0.wav 你好"),
    ],
)
def test_d06_a_list_names_recordings_with_any_names(tmp_path: Path, name: str, line: str) -> None:
    laid_out(tmp_path / "source", {**recordings(name, "其他.wav"), "transcript.txt": text(line, "其他 再见")})
    assert kept(tmp_path / "source", tmp_path / "set") == {name[:-4]: "你好", "其他": "再见"}


def test_d06_the_longest_name_that_is_known_is_meant(tmp_path: Path) -> None:
    files = {**recordings("a.wav", "a b.wav"), "transcript.txt": text("a b 你好", "a 再见", "c d 没有")}
    laid_out(tmp_path / "source", files)
    assert kept(tmp_path / "source", tmp_path / "set") == {"a b": "你好", "a": "再见"}
    assert left_out(tmp_path / "set") == {"c": ("unavailable", "there is no recording of it")}


def test_d07_names_with_blanks_in_an_archive(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        archive.writestr("第 1 句.wav", wav(0.5))
        archive.writestr("transcript.txt", text("第 1 句 你好"))
    (tmp_path / "source").mkdir()
    (tmp_path / "inner.zip").rename(tmp_path / "source" / "inner.zip")
    assert list(kept(tmp_path / "source", tmp_path / "set").values()) == ["你好"]


def test_f02_the_layout_of_kaldi(tmp_path: Path) -> None:
    files = recordings("wavs/x1.wav", "wavs/x2.wav", "wavs/deep/x3.wav")
    files["data/train/text"] = text("utt-1 你好", "utt-2 再 见")
    files["data/train/wav.scp"] = text("utt-1 /home/someone/corpus/wavs/x1.wav", "utt-2\twavs/x2.wav")
    files["data/test/text"] = text("utt-3 谢谢")
    files["data/test/wav.scp"] = text("utt-3 ../../wavs/deep/x3.wav")
    laid_out(tmp_path / "source", files)
    assert kept(tmp_path / "source", tmp_path / "set") == {"wavs/x1": "你好", "wavs/x2": "再见"}
    assert kept(tmp_path / "source", tmp_path / "again", "test") == {"wavs/deep/x3": "谢谢"}
    assert left_out(tmp_path / "set") == {}


def test_f02_text_beside_the_recordings_it_names(tmp_path: Path) -> None:
    laid_out(tmp_path / "source", {**recordings("a0.wav"), "text": text("a0 四七二六"), "wav.scp": text("a0 a0.wav")})
    assert kept(tmp_path / "source", tmp_path / "set") == {"a0": "四七二六"}


def test_f02_commands_of_a_script_are_counted_and_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    files = recordings("a.wav", "b.wav")
    files["text"] = text("u1 你好", "u2 再见", "u3 没有")
    files["wav.scp"] = text("u1 a.wav", f"u2 touch {canary}; sox b.wav -t wav - |", "u3 gone.wav")
    laid_out(tmp_path / "source", files)
    assert kept(tmp_path / "source", tmp_path / "set") == {"a": "你好"}
    rows = left_out(tmp_path / "set")
    assert not canary.exists()
    assert rows["u2"][0] == "unavailable" and "commands of data are not run" in rows["u2"][1]
    assert rows["u3"] == ("unavailable", "there is no recording of it")
    assert rows["b"] == ("unavailable", "there is no transcript of it")


def test_f02_segments_are_cut_out(tmp_path: Path) -> None:
    """Two long recordings, utterances out of order, overlapping, to the end, and with times that cannot be."""
    files = {"wavs/a.wav": wav(30, 1), "wavs/b.flac": flac(8, 2), "wavs/c.wav": wav(2, 3)}
    spoken = {"a-1": "你好", "a-2": "再见", "a-3": "谢谢", "a-4": "四七", "a-5": "太长", "b-1": "你", "b-2": "我"}
    files["data/train/text"] = text(*(f"{id} {said}" for id, said in spoken.items()), "late 太晚", "over 多", "not 是")
    files["data/train/text"] += text("back 反", "gone 无", "run 令", "mono 声", "whole 全", "spare 余")
    files["data/train/wav.scp"] = text(
        "a /x/wavs/a.wav", "b wavs/b.flac", "lost wavs/lost.wav", "c sox a |", "whole wavs/c.wav"
    )
    files["data/train/segments"] = text(
        "a-2 a 9.123 12.5", "a-1 a 0 1.25", "a-3 a 12.0004 14", "a-4 a 28.5 -1", "a-5 a 2 29", "b-1 b 0.5 1.5",
        "b-2 b 7 8.3", "", "late a 31 32", "over a 29 30.7", "not a one two", "back a 3 2", "gone lost 0 1",
        "run c 0 1", "mono b 0 1 1", "a-1 a 5 6", "silent b 2 3",
    )  # fmt: skip
    files["data/dev/text"], files["data/dev/wav.scp"] = text("d-1 日月"), text("a wavs/a.wav")
    files["data/dev/segments"] = text("d-1 a 20 21")
    laid_out(tmp_path / "source", files)
    made = prepare("speech-corpus", tmp_path / "source", tmp_path / "set", options={"task": "asr"})
    times = {
        "a-1": (0, 1.25),
        "a-2": (9.123, 12.5),
        "a-3": (12.0004, 14),
        "a-4": (28.5, 30),
        "b-1": (0.5, 1.5),
        "b-2": (7, 8),
    }
    found = {each["id"]: each for each in made.split("train")}
    whole = found.pop("wavs/c")
    assert whole["transcript"] == "全" and whole["sound"] == files["wavs/c.wav"]
    assert set(found) == {f"wavs/{id[0]}/{id}" for id in times}
    for id, (start, end) in times.items():
        item, source = found[f"wavs/{id[0]}/{id}"], files["wavs/a.wav" if id[0] == "a" else "wavs/b.flac"]
        assert item["transcript"] == spoken[id]
        right = soundfile.read(io.BytesIO(source), dtype="int16")[0][round(16_000 * start) : round(16_000 * end)]
        np.testing.assert_array_equal(soundfile.read(io.BytesIO(item["sound"]), dtype="int16")[0], right)
    (dev,) = made.split("dev")
    assert (dev["id"], dev["transcript"]) == ("wavs/a/d-1", "日月")
    left = left_out(tmp_path / "set")
    assert {id: why for id, (why, _) in left.items()} == {
        "wavs/a/a-5": "filtered", "wavs/a/late": "damaged", "wavs/a/over": "damaged", "not": "damaged",
        "back": "damaged", "gone": "unavailable", "run": "unavailable", "mono": "unavailable", "a-1": "duplicate",
        "wavs/b/silent": "unavailable", "spare": "unavailable",
    }  # fmt: skip
    assert left["wavs/a/over"][1] == "ends at 30.7 s, and its recording at 30.00"


def test_f02_segments_of_a_recording_that_is_not_whole_are_damaged(tmp_path: Path) -> None:
    files = {"a.wav": wav(9, 1)[:90_000], "text": text("a-1 你好", "a-2 再见"), "wav.scp": text("a a.wav")}
    laid_out(
        tmp_path / "source",
        {**files, "b.wav": wav(1), "b.txt": "好".encode(), "segments": text("a-1 a 0 1", "a-2 a 1 2")},
    )
    assert kept(tmp_path / "source", tmp_path / "set") == {"b": "好"}
    assert {why for why, _ in left_out(tmp_path / "set").values()} == {"damaged"}
