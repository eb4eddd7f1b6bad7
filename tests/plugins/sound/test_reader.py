from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from skillnet_cli.api import DamagedItem, collect_remarks
from skillnet_sound.config import SoundConfig
from skillnet_sound.reader import SoundReader

Make = Callable[..., Any]


def test_decodes_what_soundfile_decodes(reader: SoundReader, tone: Make, encode: Make, tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(encode(tone()))
    expected, _ = soundfile.read(path, dtype="float32")
    for source in (path, path.read_bytes()):
        np.testing.assert_array_equal(reader.decode(source), expected)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_resamples_and_mixes_to_mono(reader: SoundReader, tone: Make, encode: Make, rate: int, channels: int) -> None:
    samples = torch.from_numpy(reader.decode(encode(tone(2.0, rate, channels=channels), rate)))
    assert abs(len(samples) - 32_000) <= 2
    spectrum = torch.fft.rfft(samples[:32_000].double()).abs()
    assert spectrum.argmax() == 2 * 440
    torch.testing.assert_close(samples[4_000:28_000].square().mean().sqrt(), torch.tensor(0.355), atol=0.01, rtol=0)


@pytest.mark.parametrize("format", ["FLAC", "MP3", "OGG", "AIFF", "CAF"])
def test_formats_of_soundfile(reader: SoundReader, tone: Make, encode: Make, format: str) -> None:
    samples = reader.read(encode(tone(1.0), format=format))
    assert abs(len(samples) - 16_000) < 2_500
    assert torch.fft.rfft(samples[:16_000].double()).abs().argmax() == 440


@pytest.mark.parametrize(("container", "codec"), [("ipod", "aac"), ("matroska", "aac"), ("adts", "aac")])
def test_formats_of_ffmpeg(reader: SoundReader, tone: Make, mux: Make, container: str, codec: str) -> None:
    samples = reader.read(mux(tone(1.0, 44_100), 44_100, container, codec))
    assert abs(len(samples) - 16_000) < 2_500
    assert torch.fft.rfft(samples[:16_000].double()).abs().argmax() == 440


def test_the_content_says_the_format_not_the_name(
    reader: SoundReader, tone: Make, encode: Make, mux: Make, tmp_path: Path
) -> None:
    misnamed = tmp_path / "flac.mp3"
    misnamed.write_bytes(encode(tone(), format="FLAC"))
    assert len(reader.read(misnamed)) == 16_000
    misnamed = tmp_path / "m4a.wav"
    misnamed.write_bytes(mux(tone(), 16_000, "ipod", "aac"))
    assert len(reader.read(misnamed)) > 15_000


def test_keeps_the_first_twenty_seconds(reader: SoundReader, tone: Make, encode: Make) -> None:
    long = tone(21.0)
    assert len(reader.read(encode(long))) == 320_000
    assert reader.length(reader.read(encode(long))) == 1_000
    resampled = reader.read(encode(tone(21.0, 8_000), 8_000))
    assert len(resampled) == 320_000


def test_shortest_recording(reader: SoundReader, tone: Make, encode: Make) -> None:
    assert reader.length(reader.read(encode(tone()[:400]))) == 2
    with pytest.raises(DamagedItem, match="too short"):
        reader.read(encode(tone()[:399]))


def test_collates_to_zero_padded_samples(reader: SoundReader) -> None:
    batch = reader.collate([torch.ones(500), torch.ones(800)])
    assert batch["lengths"].tolist() == [500, 800]
    assert batch["samples"].shape == (2, 800)
    assert batch["samples"].sum() == 1_300


def wav_of(encode: Make, samples: Any) -> bytes:
    whole: bytes = encode(samples, subtype="FLOAT")
    return whole


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: b"", "empty"),
        (lambda whole: whole[:30], "it is a WAV recording, and damaged"),
        (lambda whole: b"not a sound at all" * 50, "cannot be decoded: it is text"),
        (lambda whole: b"#EXTM3U\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "decoded: it is a playlist"),
        (lambda whole: b"ffconcat version 1.0\nfile /etc/hostname\n", "decoded: it is a list of other files"),
    ],
)
def test_damaged_files(reader: SoundReader, tone: Make, encode: Make, damage: Make, message: str) -> None:
    with pytest.raises(DamagedItem, match=message):
        reader.read(damage(encode(tone())))


@pytest.mark.parametrize(("format", "seconds"), [("WAV", 1.0), ("FLAC", 1.0), ("OGG", 4.0)])
def test_of_truncated_files_is_read_what_is_there(
    reader: SoundReader, tone: Make, encode: Make, format: str, seconds: float
) -> None:
    whole = encode(tone(seconds), format=format)
    with collect_remarks() as remarks:
        samples = reader.decode(whole[: len(whole) // 2])
    assert 0.2 * seconds < len(samples) / 16_000 < 0.8 * seconds
    assert len(remarks) == 1 and f"breaks off after {len(samples) / 16_000:.1f}" in remarks[0]


def test_truncated_m4a(reader: SoundReader, tone: Make, mux: Make) -> None:
    whole = mux(tone(), 16_000, "ipod", "aac")
    with pytest.raises(DamagedItem, match="without its table"):
        reader.read(whole[: len(whole) // 2])


def test_no_samples(reader: SoundReader, tone: Make, encode: Make) -> None:
    with pytest.raises(DamagedItem, match="holds no sound"):
        reader.read(encode(tone()[:0]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(reader: SoundReader, tone: Make, encode: Make, value: float) -> None:
    samples = tone()
    samples[7_000] = value
    with pytest.raises(DamagedItem, match="not numbers"):
        reader.read(wav_of(encode, samples))


def test_a_header_with_an_absurd_rate(reader: SoundReader, tone: Make, encode: Make) -> None:
    whole = bytearray(encode(tone()))
    whole[24:28] = (1).to_bytes(4, "little")
    with pytest.raises(DamagedItem, match="sample rate of 1 Hz"):
        reader.read(bytes(whole))


def test_a_wav_whose_recorder_did_not_know_its_length(reader: SoundReader, tone: Make, encode: Make) -> None:
    whole = bytearray(encode(tone()))
    whole[4:8] = whole[40:44] = b"\xff\xff\xff\xff"
    assert len(reader.read(bytes(whole))) == 16_000


def test_flipped_bytes_never_raise_anything_else(reader: SoundReader, tone: Make, encode: Make, mux: Make) -> None:
    rng = np.random.default_rng(5)
    wholes = [encode(tone(0.2), format=format) for format in ("WAV", "FLAC", "OGG")]
    for whole in [*wholes, mux(tone(0.2), 16_000, "ipod", "aac")]:
        for _ in range(25):
            damaged = np.frombuffer(whole, dtype=np.uint8).copy()
            damaged[rng.integers(len(damaged), size=4)] = rng.integers(256, size=4)
            try:
                samples = reader.read(damaged.tobytes())
            except DamagedItem:
                continue
            assert samples.isfinite().all()


def test_video_without_sound(reader: SoundReader) -> None:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), dtype=np.uint8), format="rgb24")
        output.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(DamagedItem, match="holds no sound"):
        reader.read(file.getvalue())


def test_a_missing_file_is_a_damaged_item_as_with_every_reader(reader: SoundReader, tmp_path: Path) -> None:
    with pytest.raises(DamagedItem, match="cannot be read: No such file"):
        reader.read(tmp_path / "nothing.wav")


def test_config_rejects_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="one of each"):
        SoundConfig(kernels=(3, 3), strides=(2,))
    with pytest.raises(ValueError, match="max_positions"):
        SoundConfig(max_seconds=30)
    with pytest.raises(ValueError, match="shorter than one frame"):
        SoundConfig(max_seconds=0.01)
    with pytest.raises(ValueError, match="Extra inputs"):
        SoundConfig(chanels=3)  # type: ignore[call-arg]
