"""Lists of transcripts as others write them: names with blanks, commas and bars, the layout of Kaldi."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.data.format import read_ledger
from tests.plugins.sound.corpora import laid_out, prepare, wav


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


def test_f02_parts_of_recordings_are_counted(tmp_path: Path) -> None:
    files = recordings("a.wav", "b.wav")
    files["text"] = text("u1 你好", "a-1 再见")
    files["wav.scp"] = text("u1 b.wav", "a a.wav")
    files["segments"] = text("a-1 a 0.0 0.4")
    laid_out(tmp_path / "source", files)
    assert kept(tmp_path / "source", tmp_path / "set") == {"b": "你好"}
    assert "parts are not cut out" in left_out(tmp_path / "set")["a-1"][1]
