"""Recordings as they come: every level, any channels, joined, cut off, damaged, piped, in any container.

The right number of samples is that of the ``ffmpeg`` command.
"""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import av
import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from skillnet_cli.api import DamagedItem, collect_remarks
from skillnet_cli.inference.transcriber import Transcriber, Transcript
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig
from skillnet_sound.config import SoundConfig
from skillnet_sound.decode import blocks
from skillnet_sound.demo.synthesis import Utterance, speak
from skillnet_sound.reader import SoundReader

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
RATE = 16_000
SPOKEN = Utterance("四七二六", "cmn", 140, 50)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = speak([SPOKEN], tmp_path_factory.mktemp("speech"))
    return path


@pytest.fixture(scope="module")
def longer(speech: Path) -> Path:
    """The same five times: 6 seconds."""
    samples, rate = soundfile.read(speech, dtype="float32")
    path = speech.with_name("longer.wav")
    soundfile.write(path, np.tile(samples, 5), rate)
    return path


@pytest.fixture
def reader() -> SoundReader:
    return SoundReader(SoundConfig(channels=8))


def ffmpeg(*arguments: object) -> bytes:
    command = [FFMPEG, "-y", "-loglevel", "error", *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout


def encoded(source: Path, name: str, *options: object) -> Path:
    path = source.with_name(name)
    if not path.exists():
        ffmpeg("-i", source, *options, path)
    return path


def counted_by_ffmpeg(path: Path) -> int:
    command = [
        FFMPEG,
        "-loglevel",
        "quiet",
        "-i",
        path,
        "-map",
        "0:a:0",
        "-f",
        "f32le",
        "-ac",
        "1",
        "-ar",
        "16000",
        "-",
    ]
    return len(subprocess.run(list(map(str, command)), capture_output=True, check=False).stdout) // 4


def heard(source: Path | bytes) -> tuple[int, list[str]]:
    with collect_remarks() as remarks:
        count = sum(map(len, blocks(source, RATE)))
    return count, remarks


def assert_as_ffmpeg(path: Path) -> list[str]:
    count, remarks = heard(path)
    assert count > 0 and abs(count - counted_by_ffmpeg(path)) <= 16, path.name
    return remarks


# --- level, offset, polarity, channels -------------------------------------------------------------------------------


def wav(samples: np.ndarray, subtype: str = "FLOAT", rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format="WAV")
    return file.getvalue()


def silent(x: np.ndarray, channels: int, place: int) -> np.ndarray:
    return np.stack([x if channel == place else 0 * x for channel in range(channels)], axis=1)


ALTERED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **{f"gain {gain}": lambda x, gain=gain: gain * x for gain in (0.05, 0.125, 0.5, 2, 10)},
    **{f"offset {offset}": lambda x, offset=offset: 0.7 * x + offset for offset in (0.02, -0.05)},
    "polarity": lambda x: -x,
    "polarity and level": lambda x: -0.1 * x,
    "6 channels, the third speaks": lambda x: silent(x, 6, 2),
    "8 channels, the first speaks": lambda x: silent(x, 8, 0),
    "8 channels, the others hiss": lambda x: silent(x, 8, 0) + np.random.default_rng(0).normal(0, 1e-4, (len(x), 8)),
    "a silent channel with an offset": lambda x: silent(x, 2, 1) + np.array([0.1, 0.0]),
    "opposite channels": lambda x: np.stack([x, -x], axis=1),
    "opposite channels, one quieter": lambda x: np.stack([-0.3 * x, x], axis=1),
    "stereo": lambda x: np.stack([x, x], axis=1),
}


@pytest.mark.parametrize("how", ALTERED)
def test_w06_level_offset_polarity_and_channels_change_nothing(reader: SoundReader, speech: Path, how: str) -> None:
    samples, _ = soundfile.read(speech, dtype="float32")
    plain = reader.read(wav(samples)).numpy()
    altered = reader.read(wav(ALTERED[how](samples))).numpy()
    assert np.sqrt(np.mean((altered - plain) ** 2)) < 0.01  # of a deviation of 1
    window = next(iter(reader.split(_written(speech, wav(ALTERED[how](samples))))))
    assert np.array_equal(window.features, altered), "use and training hear the same"


def _written(beside: Path, content: bytes) -> Path:
    path = beside.with_name("written.wav")
    path.write_bytes(content)
    return path


def test_w06_two_speakers_on_two_channels_are_both_heard(speech: Path) -> None:
    samples, _ = soundfile.read(speech, dtype="float32")
    rest = np.zeros_like(samples)
    both = np.stack([np.concatenate([samples, rest]), np.concatenate([rest, samples])], axis=1)
    mixed = np.concatenate(list(blocks(wav(both), RATE)))
    for part in np.split(mixed, 2):
        assert 0.4 * samples.std() < part.std() < 1.1 * samples.std()


def test_w06_the_level_is_that_of_wav2vec(reader: SoundReader, speech: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    samples, _ = soundfile.read(speech, dtype="float32")
    theirs = Wav2Vec2FeatureExtractor(do_normalize=True)(samples, sampling_rate=RATE)["input_values"][0]
    ours = reader.read(speech).numpy()
    assert (
        min(np.abs(ours - theirs).max(), np.abs(ours + theirs).max()) < 1e-4
    )  # but for the sign, which is one for all


def test_w06_units_stay_those_of_the_recording_as_it_is(reader: SoundReader, speech: Path) -> None:
    samples, _ = soundfile.read(speech, dtype="float32")
    np.testing.assert_array_equal(reader.decode(speech), samples)


# --- silence ---------------------------------------------------------------------------------------------------------


TASK = TaskConfig("asr", (("sound",),), "ctc", target="transcript", labels=("八",))


@pytest.mark.parametrize("level", [0.0, 1e-5, 1e-4, 5e-4])
def test_w07_a_recording_without_sound_has_no_window_to_transcribe(
    reader: SoundReader, tmp_path: Path, level: float
) -> None:
    path = tmp_path / "silence.wav"
    path.write_bytes(wav(np.random.default_rng(0).normal(0.01, level, 2 * RATE)))
    for source in (path, path.read_bytes()):
        with collect_remarks() as remarks:
            (window,) = reader.split(source)
        assert window.features is None and "is silent" in remarks[0]
        transcriber = Transcriber(Mock(spec=SkillNet), {"sound": reader}, TASK)
        assert transcriber.transcribe(source) == Transcript((), "")
        with pytest.raises(DamagedItem, match="its transcript is empty; is silent: nothing"):
            transcriber.text(source)


def test_w07_silence_is_not_blown_up_into_noise(reader: SoundReader) -> None:
    hiss = np.random.default_rng(0).normal(0, 3e-5, RATE)  # the last bit of 16
    assert reader.read(wav(np.zeros(RATE))).abs().max() == 0
    assert reader.read(wav(hiss)).std() < 0.15


@pytest.mark.parametrize("between", [2, 9, 50])
def test_w07_recordings_are_heard_alike_with_silence_around_them(
    reader: SoundReader, tmp_path: Path, between: int
) -> None:
    """Of the zeros before and behind it a sound keeps a fifth of a second, as if that were all of the recording."""
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)
    zeros = np.zeros(between * RATE, dtype=np.float32)
    path = tmp_path / "pauses.wav"
    path.write_bytes(wav(np.concatenate([zeros, noise, zeros, 0.05 * noise, zeros])))
    heard = [window for window in reader.split(path) if window.features is not None]
    assert len(heard) == 2
    for window, gain, start in zip(heard, (1, 0.05), (between, 2 * between + 3), strict=True):
        before, behind = start - window.start, window.end - start - 3
        assert 0.199 < before < 0.301 and 0.199 < behind < 0.301  # seconds; looked at by tenths of one
        edges = [np.zeros(round(seconds * RATE), dtype=np.float32) for seconds in (before, behind)]
        alone = reader.read(wav(np.concatenate([edges[0], gain * noise, edges[1]])))
        assert window.features is not None and window.features.equal(alone)


def test_w07_a_quiet_voice_is_no_silence(reader: SoundReader, speech: Path, tmp_path: Path) -> None:
    samples, _ = soundfile.read(speech, dtype="float32")
    path = tmp_path / "quiet.wav"
    path.write_bytes(wav(np.concatenate([0.02 * samples, np.zeros(40 * RATE)])))
    first, *others = reader.split(path)
    assert first.features is not None and others and all(window.features is None for window in others)


# --- files as they come ----------------------------------------------------------------------------------------------

JOINED = ("mp3", "aac", "flac", "ogg", "opus", "ac3", "mp2")


@pytest.mark.parametrize("suffix", JOINED)
def test_l02_joined_recordings_are_all_read(longer: Path, suffix: str) -> None:
    options = {"opus": ["-c:a", "libopus"], "ogg": ["-c:a", "libvorbis"]}
    one = encoded(longer, f"one.{suffix}", *options.get(suffix, []))
    joined = longer.with_name(f"joined.{suffix}")
    joined.write_bytes(3 * one.read_bytes())
    assert assert_as_ffmpeg(joined) == []
    assert heard(joined)[0] > 2.9 * heard(one)[0]


NARROW = ("-ar", 8000, "-b:a", "12.2k")
ENDED_EARLY: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(
        ("wav", "aiff", "caf", "m4a", "mka", "w64", "wv", "tta", "wma", "voc", "au", "sox", "rm", "wtv"), ()
    ),
    "rf64.wav": ("-rf64", "always"),
    "fragments.mp4": ("-movflags", "+frag_keyframe+empty_moov"),
    "webm": ("-c:a", "libopus"),
    "flv": ("-ar", 44_100),
    "amr": NARROW,
    "nut": ("-c:a", "flac"),
    "adx": (),
    "mmf": ("-ar", 8000),
    "ircam": ("-f", "ircam"),
}


@pytest.mark.parametrize("name", ENDED_EARLY)
def test_l02_joined_recordings_that_ffmpeg_ends_early(longer: Path, speech: Path, name: str) -> None:
    one = encoded(longer, f"first.{name}", *ENDED_EARLY[name]).read_bytes()
    other = encoded(speech, f"second.{name}", *ENDED_EARLY[name]).read_bytes()
    count, remarks = heard(one + other + one)
    assert remarks == [] and abs(count - 2 * heard(one)[0] - heard(other)[0]) <= 3


@pytest.mark.parametrize("format", ["NIST", "PAF", "PVF", "AVR", "SVX", "SDS"])
def test_l02_joined_recordings_of_libsndfile(speech: Path, format: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, soundfile.read(speech)[0], RATE, "PCM_16", format=format)
    count, remarks = heard(file.getvalue())
    assert remarks == [] and heard(3 * file.getvalue()) == (3 * count, [])


def test_l02_a_header_is_found_where_the_first_file_does_not_say_where_it_ends(longer: Path, speech: Path) -> None:
    whole, other = longer.read_bytes(), speech.read_bytes()
    both = heard(whole)[0] + heard(other)[0]
    piped = b"".join(ffmpeg("-i", each, "-f", "wav", "-") for each in (longer, speech))
    assert heard(piped) == heard(whole + bytes(5000) + other) == (both, [])
    count, remarks = heard(whole[: len(whole) // 2] + other)
    assert 0 <= heard(whole)[0] // 2 + heard(other)[0] - count < 50
    assert remarks == [f"of 2 recordings joined in it, number 1 breaks off after {len(whole) / 4 / RATE:.1f} seconds"]


def test_l02_one_of_joined_recordings_that_holds_nothing_costs_itself(longer: Path) -> None:
    whole, empty = longer.read_bytes(), wav(np.zeros(0))
    assert heard(empty + whole + empty) == (
        heard(whole)[0],
        ["of 3 recordings joined in it, number 1 holds no sound; 1 more are not whole"],
    )
    with pytest.raises(DamagedItem, match="^holds no sound$"):
        heard(empty + empty)


@pytest.mark.parametrize("suffix", ["wv", "m4a", "mka", "caf", "ac3", "amr", "mp3", "wav"])
def test_l02_tags_behind_a_recording_are_no_damage(longer: Path, suffix: str) -> None:
    one = encoded(longer, f"plain.{suffix}", *(NARROW if suffix == "amr" else ())).read_bytes()
    item = struct.pack("<II", 5, 0) + b"Title\0hello"
    ends = {
        flags: struct.pack("<8sIIIIQ", b"APETAGEX", 2000, len(item) + 32, 1, flags, 0)
        for flags in (0, 5 << 29, 1 << 31)
    }
    id3 = b"TAG" + bytes(125)
    for tags in (id3, item + ends[0], ends[5 << 29] + item + ends[1 << 31] + id3):
        assert heard(one + tags) == heard(one), tags
    assert heard(one)[1] == []


def test_l02_tags_before_and_between(longer: Path) -> None:
    tag = b"ID3\x03\0\0\0\0\0\x0a" + bytes(10)
    whole, mp3 = longer.read_bytes(), encoded(longer, "tagged.mp3").read_bytes()
    assert heard(tag + whole) == heard(whole)
    assert heard(tag + encoded(longer, "tagged.flac").read_bytes())[0] == heard(whole)[0]
    assert heard(mp3 + tag + mp3)[0] > 1.9 * heard(mp3)[0]


def test_l02_tags_behind_an_mp3_are_no_damage(longer: Path) -> None:
    mp3 = encoded(longer, "untagged.mp3").read_bytes()
    older = encoded(longer, "older-tag.mp3", "-write_id3v1", 1, "-metadata", "title=a").read_bytes()
    ape = b"APETAGEX" + struct.pack("<IIIIQ", 2000, 32, 0, 1 << 31, 0)
    lyrics = b"LYRICSBEGIN" + 300 * b"a" + b"000311LYRICS200"
    for joined in (3 * older, mp3 + ape + mp3, older + mp3, mp3 + lyrics):
        path = longer.with_name("behind.mp3")
        path.write_bytes(joined)
        assert assert_as_ffmpeg(path) == []


PIPED = {
    "flac": ("-f", "flac"),
    "mp3": ("-f", "mp3"),
    "wav": ("-f", "wav"),
    "ogg": ("-f", "ogg", "-c:a", "libvorbis"),
    "mka": ("-f", "matroska", "-c:a", "libopus"),
}


@pytest.mark.parametrize("suffix", PIPED)
def test_r01_recordings_from_a_pipe_state_no_length_and_are_read(longer: Path, suffix: str) -> None:
    path = longer.with_name(f"piped.{suffix}")
    path.write_bytes(ffmpeg("-i", longer, *PIPED[suffix], "-"))
    assert assert_as_ffmpeg(path) == []


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_r01_a_wav_that_states_no_true_length(longer: Path, length: int) -> None:
    whole = bytearray(longer.read_bytes())
    place = whole.index(b"data") + 4
    whole[4:8] = whole[place : place + 4] = length.to_bytes(4, "little")
    assert heard(bytes(whole)) == (heard(longer)[0], [])


def test_r02_mp3_in_wav(longer: Path) -> None:
    assert assert_as_ffmpeg(encoded(longer, "mp3in.wav", "-c:a", "libmp3lame")) == []


@pytest.mark.parametrize("name", ["d.wav", "d.flac", "d.mp3", "d.ogg", "d.aac", "d.m4a", "d.mka", "d.amr"])
def test_r02_damage_in_the_middle_costs_what_ffmpeg_loses(longer: Path, name: str) -> None:
    options = ["-ar", 8000, "-b:a", "12.2k"] if name.endswith("amr") else []
    content = bytearray(encoded(longer, f"whole-{name}", *options).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = random.Random(1).randbytes(200)
    damaged = longer.with_name(name)
    damaged.write_bytes(content)
    assert_as_ffmpeg(damaged)


CUT = {
    "wav": (),
    "mp3": (),
    "aac": (),
    "flac": (),
    "aiff": (),
    "au": (),
    "caf": (),
    "wv": (),
    "tta": (),
    "w64": (),
    "mka": (),
    "wma": (),
    "opus": ("-c:a", "libopus"),
    "ogg": ("-c:a", "libvorbis"),
    "webm": ("-c:a", "libopus"),
    "m4a": ("-c:a", "aac", "-movflags", "+frag_keyframe+empty_moov", "-frag_duration", 1_000_000),
    "m4b": ("-c:a", "aac", "-movflags", "+faststart"),
}


@pytest.mark.parametrize("suffix", CUT)
def test_r05_of_an_interrupted_recording_is_used_what_is_there(longer: Path, suffix: str) -> None:
    whole = encoded(longer, f"uncut.{suffix}", *CUT[suffix])
    cut = longer.with_name(f"cut.{suffix}")
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 8 // 10])
    assert heard(whole)[1] == []
    remarks = assert_as_ffmpeg(cut)
    seconds = heard(cut)[0] / RATE
    assert len(remarks) == 1 and remarks[0].startswith("breaks off after ")
    assert abs(float(remarks[0].split()[3]) - seconds) < 0.2
    assert seconds > 0.6 * heard(whole)[0] / RATE


CUT_WITHIN = {
    "flv": ("-ar", 44_100),
    "voc": (),
    "sox": (),
    "ts": ("-c:a", "mp2"),
    "m2ts": ("-c:a", "ac3"),
    "mpg": ("-c:a", "mp2"),
    "rm": (),
    "rf64": ("-f", "wav", "-rf64", "always"),
}


@pytest.mark.parametrize("suffix", CUT_WITHIN)
def test_r05_wherever_a_packet_is_cut_it_is_said(longer: Path, suffix: str) -> None:
    whole = encoded(longer, f"within.{suffix}", *CUT_WITHIN[suffix])
    assert heard(whole)[1] == []
    content = whole.read_bytes()
    for share in (0.2, 0.5, 0.8, 0.97):
        cut = longer.with_name(f"cut-within.{suffix}")
        cut.write_bytes(content[: int(share * len(content)) // 12_288 * 12_288 + 1_001])  # 64 times 192, 6 times 2048
        remarks = assert_as_ffmpeg(cut)
        assert len(remarks) == 1 and remarks[0].startswith("breaks off after "), share


STATES_ITS_LENGTH: dict[str, tuple[object, ...]] = {
    "wma": (),
    "flv": ("-ar", 44_100),
    "adx": (),
    "mmf": ("-ar", 8000),
    "mxf": ("-f", "mxf_opatom", "-ar", 48_000),
    "nut": ("-c:a", "flac"),
}


@pytest.mark.parametrize("suffix", STATES_ITS_LENGTH)
def test_r05_a_cut_between_packets_is_said_where_a_length_is_stated(longer: Path, suffix: str) -> None:
    whole = encoded(longer, f"between.{suffix}", *STATES_ITS_LENGTH[suffix])
    with av.open(str(whole)) as container:
        places = [packet.pos for packet in container.demux(audio=0) if packet.size]
    content, middle = whole.read_bytes(), places[len(places) // 2]
    count, remarks = heard(content)
    assert remarks == [] and len(places) > 4
    assert heard(content[:middle])[1] == [f"breaks off after {heard(content[:middle])[0] / RATE:.1f} seconds"]
    assert heard(content[:middle])[0] < 0.8 * count


@pytest.mark.parametrize("format", ["NIST", "SVX", "AVR", "SDS"])
def test_r05_libsndfiles_formats_that_break_off(speech: Path, format: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, soundfile.read(speech)[0], RATE, "PCM_16", format=format)
    assert heard(file.getvalue())[1] == []
    assert heard(file.getvalue()[: 127 * 200 + 21])[1][0].startswith("breaks off after ")


SOUND_WHOLE = {
    "whole.nut": ("-c:a", "flac"),
    "eac3.avi": ("-c:a", "eac3"),
    "dts.avi": ("-c:a", "dca", "-strict", -2),
    "instant.aac": ("-t", 0.02),
    "instant.mp3": ("-t", 0.02),
}


@pytest.mark.parametrize("name", SOUND_WHOLE)
def test_r05_nothing_is_said_of_a_whole_recording(longer: Path, name: str) -> None:
    assert assert_as_ffmpeg(encoded(longer, name, *SOUND_WHOLE[name])) == []


def test_r05_an_mp4_without_its_table_says_so(longer: Path) -> None:
    whole = encoded(longer, "table-last.m4a").read_bytes()
    with pytest.raises(DamagedItem, match=r"an MP4 file without its table \(moov\)"):
        heard(whole[: len(whole) * 8 // 10])


def test_r05_a_preparer_keeps_no_recording_that_breaks_off(longer: Path) -> None:
    from skillnet_sound.datasets.recordings import transcribed, untranscribed

    content = encoded(longer, "interrupted.mp3").read_bytes()
    content = content[: len(content) * 8 // 10]
    for keep in (
        lambda: transcribed("train", "a", ".mp3", content, "四", True),
        lambda: list(untranscribed("train", "a", ".mp3", content)),
    ):
        with pytest.raises(DamagedItem, match="breaks off after"):
            keep()


VIDEO = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=2")
CONTAINERS = {
    "v.avi": ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
    "v.flv": ("-c:v", "flv", "-c:a", "libmp3lame", "-ar", 44100),
    "v.ts": ("-c:v", "mpeg2video", "-c:a", "mp2"),
    "v.m2ts": ("-c:v", "mpeg2video", "-c:a", "ac3"),
    "v.mpg": ("-c:v", "mpeg2video", "-c:a", "mp2"),
    "v.mkv": ("-c:v", "mpeg4", "-c:a", "aac"),
    "v.mov": ("-c:v", "mpeg4", "-c:a", "aac"),
    "v.mp4": ("-c:v", "mpeg4", "-c:a", "aac"),
    "v.3gp": ("-c:v", "mpeg4", "-c:a", "aac"),
    "v.wmv": ("-c:v", "wmv2", "-c:a", "wmav2"),
    "v.ogv": ("-c:v", "libtheora", "-c:a", "libvorbis"),
}
SOUNDS = {
    **dict.fromkeys(("s.ac3", "s.eac3", "s.wv", "s.tta", "s.aiff", "s.au", "s.caf", "s.wma", "s.m4b", "s.mp2"), ()),
    "s.amr": ("-ar", 8000, "-b:a", "12.2k"),
    "s.dts": ("-c:a", "dca", "-strict", -2),
    "s.w64": (),
    "s.voc": (),
    "alac.m4a": ("-c:a", "alac"),
    "adpcm.wav": ("-c:a", "adpcm_ms"),
    "mulaw.wav": ("-c:a", "pcm_mulaw"),
    "s24.wav": ("-c:a", "pcm_s24le"),
    "u8.wav": ("-c:a", "pcm_u8"),
}


@pytest.mark.parametrize("name", [*CONTAINERS, *SOUNDS])
def test_r06_every_format_is_read_whatever_it_is_called(longer: Path, name: str) -> None:
    path = longer.with_name(name)
    if name in CONTAINERS:
        ffmpeg(*VIDEO, "-i", longer, "-ac", 1, *CONTAINERS[name], path)
    else:
        encoded(longer, name, *SOUNDS[name])
    assert assert_as_ffmpeg(path) == []
    assert heard(path.read_bytes()) == heard(path)
    misnamed = path.rename(path.with_name(f"called-{name}.mp3"))
    assert assert_as_ffmpeg(misnamed) == []


@pytest.mark.parametrize("format", ["HTK", "MAT5", "NIST", "PAF", "PVF", "SVX", "IRCAM", "AVR"])
def test_r06_formats_of_libsndfile(longer: Path, format: str) -> None:
    samples, _ = soundfile.read(longer, dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, "PCM_16", format=format)
    assert heard(file.getvalue())[0] == len(samples)


def test_r06_a_track_that_appears_later_is_passed_over(longer: Path) -> None:
    """As FFmpeg does: its readers of FLV and broadcasts announce a track when they come upon it."""
    path = encoded(longer, "late.flv", "-c:a", "mp3", "-ar", 44100)
    right = heard(path)
    tag = b"\x09\0\0\x20" + b"\0" * 7 + b"\x12" + b"\0" * 31 + (11 + 32).to_bytes(4, "big")
    path.write_bytes(path.read_bytes() + tag)
    assert heard(path) == right and assert_as_ffmpeg(path) == []


def test_r06_the_default_track_is_heard(longer: Path) -> None:
    path = longer.with_name("tracks.mkv")
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:duration=2")
    ffmpeg(
        *tone,
        "-i",
        longer,
        "-map",
        "0:a",
        "-map",
        "1:a",
        "-c:a",
        "flac",
        "-disposition:a:0",
        "0",
        "-disposition:a:1",
        "default",
        path,
    )
    assert heard(path)[0] == heard(longer)[0]


# --- what is no recording --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<html>404</html>", "it is a web page (HTML), not a recording"),
        (b"\x02#!SILK_V3" + bytes(range(200)), "it is SILK, the format of WeChat's and QQ's voice messages, not"),
        (b"PK\x03\x04" + bytes(60), "it is a ZIP archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "it is a PNG picture, not a recording"),
        (bytes(4000), "it is nothing but zeros"),
        (b"", "the file is empty"),
        (b"fLaC" + bytes(10), "it is a FLAC recording, and damaged"),
        (b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + b"<html>", "it is"),
        (b"\xff\xfb\x90\x64" + b"junk" * 40, "it is"),
    ],
)
def test_m05_what_is_no_recording_is_called_what_it_is(
    content: bytes, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DamagedItem) as error:
        heard(content)
    said = str(error.value)
    assert told in said and not any(word in said for word in ("0x", "psf_", "Errno", "Invalid"))
    assert capfd.readouterr() == ("", "")


def test_f06_silk_of_wechat_is_named() -> None:
    with pytest.raises(DamagedItem, match="is SILK, the format of WeChat's"):
        heard(b"#!SILK_V3" + random.Random(0).randbytes(3000))


def test_s16_no_library_writes_on_the_terminal(longer: Path) -> None:
    content = encoded(longer, "noisy.mp3").read_bytes()
    rng = random.Random(0)
    paths = []
    for number in range(12):
        damaged = bytearray(content)
        for _ in range(40):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        paths.append(longer.with_name(f"noisy-{number}.mp3"))
        paths[-1].write_bytes(bytes(damaged) if number % 2 else bytes(damaged)[rng.randrange(3000) :])
    script = (
        "import sys; from pathlib import Path; from skillnet_cli.api import DamagedItem\n"
        "from skillnet_sound.decode import blocks\n"
        "for path in sys.argv[1:]:\n"
        "    try: list(blocks(Path(path), 16000))\n"
        "    except DamagedItem: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *map(str, paths)], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize("padding", [3 << 20, 1 << 29])
def test_s11_zeros_behind_a_wav_are_not_read_eight_by_eight(tmp_path: Path, padding: int) -> None:
    samples = (np.random.default_rng(0).integers(-9_000, 9_000, 16_000)).astype("<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    with (tmp_path / "a.wav").open("r+b") as file:
        file.truncate(padding)
    found = np.concatenate(list(blocks(tmp_path / "a.wav", 16_000)))
    assert len(found) == len(samples)
