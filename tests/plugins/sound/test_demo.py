from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
import soundfile

import skillnet_sound
from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.plugins import resolve
from skillnet_cli.prepare.preparer import Preparation
from skillnet_sound.config import SoundConfig
from skillnet_sound.demo import synthesis
from skillnet_sound.demo.phrases import HEARD_VOICES, UNHEARD_VOICE, digit_utterances, sentence_utterances
from skillnet_sound.demo.synthesis import Utterance, speak
from skillnet_sound.reader import SoundReader
from skillnet_sound.units import MfccFeatures, load_centres, nearest

SAID = [Utterance("三七二", "cmn", 200, 50), Utterance("我喜欢音乐", "cmn+f2", 180, 40)]

spoken = pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="needs skillnet-sound[demo]")


def prepared(name: str, out: Path, limit: int | None = 40) -> PreparedSet:
    (dataset,) = (each for each in skillnet_sound.skillnet_datasets() if each.name == name)
    resolve(dataset.prepare)(Preparation(dataset, (), out, limit=limit, cache=out.parent / "cache"))
    return PreparedSet.open(out)


@pytest.mark.parametrize("plan", [digit_utterances, sentence_utterances])
def test_what_is_tested_is_never_trained_on(plan: object) -> None:
    splits = plan(0)  # type: ignore[operator]
    trained = {utterance.text for utterance in splits["train"]}
    for name in splits.keys() - {"train"}:
        assert trained.isdisjoint(utterance.text for utterance in splits[name])
    assert {utterance.voice for utterance in splits["test"]} == {UNHEARD_VOICE}
    assert {utterance.voice for utterance in splits["train"]} == set(HEARD_VOICES)
    assert splits == plan(0) != plan(1)  # type: ignore[operator]


def test_digit_strings() -> None:
    splits = digit_utterances(0)
    assert {name: len(utterances) for name, utterances in splits.items()} == {"train": 3_000, "dev": 150, "test": 300}
    texts = [utterance.text for utterances in splits.values() for utterance in utterances]
    assert {len(text) for text in texts} == {2, 3, 4}
    assert set("".join(texts)) == set("零一二三四五六七八九")


@spoken
def test_speaks_wav_files_of_16_khz(tmp_path: Path) -> None:
    paths = list(speak(SAID, tmp_path))
    assert [path.name for path in paths] == ["00000.wav", "00001.wav"]
    for path in paths:
        facts = soundfile.info(path)
        assert (facts.samplerate, facts.channels, facts.subtype) == (16_000, 1, "PCM_16")
        assert 0.3 < facts.duration < 2
        assert SoundReader(SoundConfig()).read(path).abs().max() > 0.1


@spoken
def test_the_same_utterances_are_the_same_bytes(tmp_path: Path) -> None:
    first, again = ([path.read_bytes() for path in speak(SAID, tmp_path / name)] for name in ("one", "other"))
    assert first == again


@spoken
def test_a_failing_synthesiser_fails_the_job_only(tmp_path: Path) -> None:
    unwritable = tmp_path / "00000.wav"
    unwritable.mkdir()
    with pytest.raises(FailedJob, match="synthesiser ended with status 1"):
        list(speak(SAID, tmp_path))


@spoken
def test_an_unknown_voice_fails_the_job(tmp_path: Path) -> None:
    with pytest.raises(FailedJob, match="espeak_SetVoiceByName"):
        list(speak([dataclasses.replace(SAID[0], voice="no-such-voice")], tmp_path))


def test_a_crash_in_the_library_fails_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    monkeypatch.setattr(synthesis.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(FailedJob, match="status -11"):
        list(speak(SAID, tmp_path))


def test_a_missing_synthesiser_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'skillnet-sound\[demo\]'"):
        list(speak(SAID, tmp_path))


@spoken
def test_demo_digits(tmp_path: Path) -> None:
    found = prepared("demo-digits", tmp_path / "digits")
    assert found.manifest.targets == {"transcript": list("零一二三四五六七八九")}
    assert {name: facts.items for name, facts in found.manifest.splits.items()} == {"train": 40, "dev": 40, "test": 40}
    plan, reader = digit_utterances(0), SoundReader(SoundConfig())
    for name, utterances in plan.items():
        for sample, utterance in zip(found.split(name), utterances, strict=False):
            assert sample["transcript"] == utterance.text
            assert reader.length(reader.read(sample["sound"])) > 2 * len(utterance.text)


@spoken
def test_demo_speech_has_one_unit_a_frame(tmp_path: Path) -> None:
    found = prepared("demo-speech", tmp_path / "speech")
    assert found.manifest.targets == {"units": [str(unit) for unit in range(100)]}
    centres = load_centres(tmp_path / "speech-centres.safetensors")
    reader, mfcc = SoundReader(SoundConfig()), MfccFeatures()
    for name in ("train", "dev", "test"):
        for sample in found.split(name):
            samples = reader.read(sample["sound"])
            assert len(sample["units"]) == reader.length(samples) - 1
            (alone,) = mfcc([samples])
            agreed = sum(one == other for one, other in zip(sample["units"], nearest(alone, centres), strict=True))
            assert agreed >= 0.98 * len(alone)  # batches round differently, and a frame may lie between two centres


@spoken
def test_the_same_seed_makes_the_same_set(tmp_path: Path) -> None:
    one, other = (prepared("demo-speech", tmp_path / name, limit=20) for name in ("one", "other"))
    assert one.manifest == other.manifest
    shards = [[path.read_bytes() for path in sorted(each.path.iterdir())] for each in (one, other)]
    assert shards[0] == shards[1]


@spoken
def test_too_small_a_limit_for_units(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too few for 100 clusters"):
        prepared("demo-speech", tmp_path / "speech", limit=1)
    with pytest.raises(UserError):
        PreparedSet.open(tmp_path / "speech")
