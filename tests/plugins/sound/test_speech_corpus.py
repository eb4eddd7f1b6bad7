"""``speech-corpus``: the publishers' layouts, anyone's folders, cutting, and recordings that are none."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from skillnet_cli.api import UserError
from skillnet_cli.data.format import read_ledger
from skillnet_cli.prepare.merge import merge
from skillnet_cli.prepare.preparer import Preparation, Share
from skillnet_cli.prepare.run import run
from skillnet_cli.prepare.workdir import WorkFolder
from skillnet_sound import skillnet_datasets
from skillnet_sound.datasets.corpus import SpeechCorpus
from skillnet_sound.datasets.layouts import LAYOUTS
from tests.plugins.sound.corpora import aishell, aishell_tree, broken_recordings, laid_out, packed, prepare, wav

PACKS = os.environ.get("SKILLNET_TEST_PACKS")
DATASET = next(each for each in skillnet_datasets() if each.name == "speech-corpus")


def text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def clips(*names: str) -> dict[str, bytes]:
    return {name: wav(0.5, seed) for seed, name in enumerate(names)}


AIDATATANG = {
    "corpus/train/G0013.tar.gz": packed(
        {**clips("./G0013/T0055G0013S0001.wav", "./G0013/T0055G0013S0002.wav"), "./G0013/T0055G0013S0001.txt": b"x"}
    ),
    "corpus/test/G0001.tar.gz": packed({"./G0001/T0055G0001S0001.wav": wav(0.5, 9)}),
    "transcript/aidatatang_200_zh_transcript.txt": text(
        "T0055G0013S0001 以后 你 是", "T0055G0013S0003 没有 录音", "T0055G0001S0001 你好", "T0055G0002S0001 没有 人"
    ),
}
MAGICDATA = {
    **clips("train/5_541/5_541_20170607142131.wav", "dev/5_542/5_542_20170607142132.wav"),
    "train/TRANS.txt": text(
        "UtteranceID\tSpeakerID\tTranscription",
        "5_541_20170607142131.wav\t5_541\t[FIL] 打开， Ａ灯！",
        "5_541_20170607142139.wav\t5_541\t没有录音",
    ),
    "dev/TRANS.txt": text(
        "UtteranceID\tSpeakerID\tTranscription", "5_542_20170607142132.wav\t5_542\t关 灯", "只有一列"
    ),
}
RECORDS = [
    {"id": "1", "user_id": "2", "text": "先天 性心脏病", "file": "a1.wav", "length": "0.5"},
    {"id": "2", "user_id": "2", "text": "没有录音", "file": "a3.wav", "length": "0.5"},
    {"id": "3", "user_id": "2"},
]
PRIMEWORDS = {
    **clips("audio_files/a/a1/a1.wav", "audio_files/a/a2/a2.wav"),
    "set1_transcript.json": json.dumps(RECORDS, ensure_ascii=False).encode(),
}
STCMDS = {
    **clips("ST-CMDS-20170001_1-OS/20170001P00001A0001.wav", "ST-CMDS-20170001_1-OS/20170001P00001A0002.wav"),
    "ST-CMDS-20170001_1-OS/20170001P00001A0001.txt": "去爬山".encode(),
    "ST-CMDS-20170001_1-OS/20170001P00001A0001.metadata": b"x",
    "ST-CMDS-20170001_1-OS/20170001P00001A0003.txt": "没有录音".encode(),
}
THCHS = {
    **clips("data/A11_0.wav", "data/B11_1.wav", "data/C11_2.wav", "train/A11_0.wav"),
    "data/A11_0.wav.trn": text("绿 是 阳春", "lv4 shi4", "l v4"),
    "data/B11_1.wav.trn": text("烟 景", "yan1", "y"),
    "data/D11_3.wav.trn": text("没有", "mei2", "m"),
    "train/A11_0.wav.trn": b"../data/A11_0.wav.trn",
    "dev/B11_1.wav.trn": b"../data/B11_1.wav.trn",
    "test/C11_2.wav.trn": b"../data/C11_2.wav.trn",
    "lm_word/word.3gram.lm": b"x",
}
AISHELL = aishell_tree(*aishell({"S0002": "train"}, each=1))


@pytest.mark.parametrize(
    ("preset", "files", "kept", "left_out"),
    [
        ("aishell-1", AISHELL, {"train BAC009S0002W0121": "广州市房地产中介"}, {}),
        (
            "aidatatang_200zh",
            AIDATATANG,
            {"train T0055G0013S0001": "以后你是", "test T0055G0001S0001": "你好"},
            {"unavailable": 3},
        ),
        (
            "MagicData",
            MAGICDATA,
            {"train 5_541_20170607142131": "打开Ａ灯", "dev 5_542_20170607142132": "关灯"},
            {"unavailable": 2},
        ),
        ("primewords", PRIMEWORDS, {"train a1": "先天性心脏病"}, {"unavailable": 2, "damaged": 1}),
        ("st-cmds", STCMDS, {"train 20170001P00001A0001": "去爬山"}, {"unavailable": 2}),
        ("THCHS-30", THCHS, {"train A11_0": "绿是阳春", "dev B11_1": "烟景"}, {"unavailable": 2}),
    ],
)
@pytest.mark.parametrize("archived", [False, True])
def test_the_publishers_layouts(
    tmp_path: Path,
    preset: str,
    files: Mapping[str, bytes],
    kept: Mapping[str, str],
    left_out: Mapping[str, int],
    archived: bool,
) -> None:
    source = tmp_path / "source"
    if archived:
        source.write_bytes(packed({f"corpus-1/{name}": content for name, content in files.items()}))
    else:
        laid_out(source, files)
    made = prepare("speech-corpus", source, tmp_path / "set", options={"preset": preset})
    found = {
        f"{split} {each['id']}": each["transcript"] for split in made.manifest.splits for each in made.split(split)
    }
    assert found == kept
    assert {why: count for why, count in made.manifest.ledger.items() if count and why != "kept"} == left_out
    assert made.manifest.choices["task"] == "asr" and made.manifest.licence in ("Apache-2.0", "CC BY-NC-ND 4.0")
    assert set(made.manifest.targets["transcript"]) == set("".join(text for id, text in kept.items() if "train" in id))


def test_links_that_only_name_recordings_are_no_items(tmp_path: Path) -> None:
    file = io.BytesIO(packed({name: content for name, content in THCHS.items() if name.startswith("data/")}, "w"))
    with tarfile.open(fileobj=file, mode="a") as archive:
        for split, name in (("train", "A11_0"), ("dev", "B11_1"), ("test", "C11_2")):
            link = tarfile.TarInfo(f"{split}/{name}.wav")
            link.type, link.linkname = tarfile.SYMTYPE, f"../data/{name}.wav"
            archive.addfile(link)
    (tmp_path / "thchs.tar").write_bytes(file.getvalue())
    made = prepare("speech-corpus", tmp_path / "thchs.tar", tmp_path / "set", options={"preset": "thchs-30"})
    assert {split: facts.items for split, facts in made.manifest.splits.items()} == {"dev": 1, "train": 1}
    assert made.manifest.ledger["damaged"] == 0


def test_a_preset_is_fetched_from_its_publisher_under_its_licence(tmp_path: Path) -> None:
    for name, layout in LAYOUTS.items():
        job = SpeechCorpus.configure(Preparation(DATASET, (), tmp_path / name, options={"preset": name}))
        assert job.dataset.published == layout.published and job.dataset.licence == layout.licence
        assert SpeechCorpus.configure(job) == job
        assert bool(layout.published) != bool(layout.obtain), "it is fetched, or it is said where to get it"
        assert all(each.url.startswith("https://www.openslr.org/resources/") for each in layout.published)
    with pytest.raises(UserError, match="OpenSLR has withdrawn resource 62"):
        job = Preparation(DATASET, (), tmp_path, options={"preset": "aidatatang-200zh"})
        SpeechCorpus.configure(job).fetch_sources()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "librispeech"}, "'librispeech' is not one of thchs-30"),
        ({"task": "tts"}, "--task: 'tts' is not one of asr, units"),
        ({"preset": "thchs-30"}, "no recordings of THCHS-30 found"),
    ],
)
def test_mistakes(tmp_path: Path, options: Mapping[str, str], said: str) -> None:
    laid_out(tmp_path / "source", clips("a.wav"))
    with pytest.raises(UserError, match=said):
        prepare("speech-corpus", tmp_path / "source", tmp_path / "set", options=options)


def test_anyones_folder_with_lists_and_texts_beside_the_recordings(tmp_path: Path) -> None:
    inner = {
        "x.wav": wav(0.5, 90),
        "y.wav": wav(0.5, 91),
        "x.txt": "档案".encode(),
        "transcript.txt": text("y 里面", "z 没有"),
    }
    files = {
        **clips("train/a/1.wav", "train/1.wav", "valid/1.wav", "test/b.flac", "loose.wav", "train/silent.wav"),
        "train/transcript.txt": text("a/1 第一", "1 第二", "9 没有"),
        "valid/1.txt": "验证".encode("gb18030"),
        "valid/2.txt": "没有".encode(),
        "test/b.lab": "测试".encode("utf-16"),
        "loose.wav.trn": text("散的", "san4"),
        "more.tar.gz": packed(inner),
        "README.md": b"x",
    }
    made = prepare("speech-corpus", laid_out(tmp_path / "source", files), tmp_path / "set")
    found = {each["id"]: (split, each["transcript"]) for split in made.manifest.splits for each in made.split(split)}
    assert found == {
        "train/a/1": ("train", "第一"),
        "train/1": ("train", "第二"),
        "valid/1": ("dev", "验证"),
        "test/b": ("test", "测试"),
        "loose": ("train", "散的"),
        "more.tar.gz/x": ("train", "档案"),
        "more.tar.gz/y": ("train", "里面"),
    }
    rows = {row.id: (row.why, row.reason) for row in read_ledger(tmp_path / "set") if row.why != "kept"}
    assert rows["train/silent"] == ("unavailable", "there is no transcript of it")
    for id in ("train/9", "valid/2.txt", "more.tar.gz/z"):
        assert rows.pop(id) == ("unavailable", "there is no recording of it")
    assert len(rows) == 1


def test_without_transcripts_recordings_are_for_units(tmp_path: Path) -> None:
    files = {**clips("a/1.wav", "b/1.wav"), "c.mp3": b"none", "short.wav": wav(0.02), "copy.wav": wav(0.5, 0)}
    made = prepare("speech-corpus", laid_out(tmp_path / "source", files), tmp_path / "set")
    assert made.manifest.choices["task"] == "units" and made.manifest.targets == {}
    assert [sorted(each) for each in made.split("train")] == [["id", "sound"]] * 2
    assert made.manifest.ledger == {"kept": 2, "filtered": 1, "duplicate": 1, "unavailable": 0, "damaged": 1}


def test_long_recordings_are_cut_for_units_and_filtered_for_recognition(tmp_path: Path) -> None:
    laid_out(
        tmp_path / "source", {"long.wav": wav(50), "edge.wav": wav(20), "transcript.txt": text("long 长", "edge 短")}
    )
    made = prepare("speech-corpus", tmp_path / "source", tmp_path / "units", options={"task": "units"})
    there = {each["id"]: each["sound"] for each in made.split("train")}
    assert list(there) == ["edge", "long-0000", "long-0001", "long-0002"]
    pieces = [soundfile.read(io.BytesIO(there[id]))[0] for id in list(there)[1:]]
    assert all(len(piece) <= 320_000 for piece in pieces)
    whole = soundfile.read(io.BytesIO(wav(50)))[0]
    assert np.abs(np.concatenate(pieces) - whole).max() < 1e-4, "together they are the recording"
    made = prepare("speech-corpus", tmp_path / "source", tmp_path / "asr")
    assert [each["id"] for each in made.split("train")] == ["edge"]
    assert [row.reason for row in read_ledger(tmp_path / "asr") if row.why == "filtered"] == ["longer than 20 seconds"]


@pytest.mark.parametrize("task", ["units", "asr"])
def test_recordings_that_are_none_are_damaged_and_nothing_else(tmp_path: Path, task: str) -> None:
    broken = broken_recordings()
    names = {name.partition(".")[0] for name in broken}
    laid_out(tmp_path / "source", {**broken, **clips("good.wav", "wrong-extension.mp3")})
    listed = text(*(f"{name} 一" for name in sorted({*names, "good", "wrong-extension"})))
    (tmp_path / "source" / "transcript.txt").write_bytes(listed)
    made = prepare("speech-corpus", tmp_path / "source", tmp_path / "set", options={"task": task})
    assert [each["id"] for each in made.split("train")] == ["good", "wrong-extension"], "the format is told by content"
    damaged = {row.id: row.reason for row in read_ledger(tmp_path / "set") if row.why == "damaged"}
    assert damaged.keys() == names and all(damaged.values())
    assert str(tmp_path) not in "".join(damaged.values()), "no path of this machine"


def test_shares_and_any_number_of_processes_give_the_same_bytes(tmp_path: Path) -> None:
    laid_out(tmp_path / "source", {**AIDATATANG})
    options = {option.name: option.absent for option in DATASET.options} | {"preset": "aidatatang-200zh"}
    prepare("speech-corpus", tmp_path / "source", tmp_path / "whole", options=options)
    job = Preparation(DATASET, (str(tmp_path / "source"),), tmp_path / "set", options=options)
    for number in (2, 1):
        run(SpeechCorpus, Preparation(**{**vars(job), "share": Share(number, 2)}))
    merge(SpeechCorpus(job), WorkFolder(tmp_path / "set"))
    one, other = ({p.name: p.read_bytes() for p in (tmp_path / f).iterdir() if p.is_file()} for f in ("whole", "set"))
    assert one == other


@pytest.mark.skipif(not PACKS, reason="SKILLNET_TEST_PACKS names no folder with speech/mandarin_words.tar")
def test_the_real_words(tmp_path: Path) -> None:
    source = Path(PACKS or "") / "speech" / "mandarin_words.tar"
    made = prepare("speech-corpus", source, tmp_path / "set", limit=300)
    assert {split: facts.items for split, facts in made.manifest.splits.items()} == {"dev": 300, "train": 300}
    first = made.split("train")[0]
    assert first["id"] == "mandarin_words/train/BAC009S0002W00000" and first["transcript"] == "一"


@pytest.mark.skipif(not PACKS, reason="SKILLNET_TEST_PACKS names no folder with speech/mandarin_syllables.tar")
def test_the_real_syllables(tmp_path: Path) -> None:
    source = Path(PACKS or "") / "speech" / "mandarin_syllables.tar"
    made = prepare("speech-corpus", source, tmp_path / "set", workers=2)
    assert made.manifest.choices["task"] == "units"
    assert made.manifest.ledger == {"kept": 3330, "filtered": 0, "duplicate": 9, "unavailable": 0, "damaged": 0}
    assert Counter(row.why for row in read_ledger(tmp_path / "set")) == {"kept": 3330, "duplicate": 9}
