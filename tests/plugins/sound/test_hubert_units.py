"""``hubert-units``: a prepared set with sounds becomes one with units, as many as the convolution's frames."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from skillnet_cli.api import UserError
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_sound.config import SoundConfig
from skillnet_sound.convolution import WaveConvolution
from skillnet_sound.datasets.hubert_units import CENTRES
from skillnet_sound.reader import SoundReader
from skillnet_sound.units import MfccFeatures, load_centres, nearest, save_centres
from tests.plugins.sound.corpora import laid_out, prepare

OPTIONS: dict[str, Any] = {"clusters": 12}


def speech(seconds: float, seed: int) -> bytes:
    """Tones and noise that change every 100 ms, as FLAC."""
    rng = np.random.default_rng(seed)
    times = np.arange(1_600) / 16_000
    parts = [
        np.sin(2 * np.pi * rng.uniform(100, 4_000) * times) * rng.uniform(0, 0.5) + rng.normal(0, 0.01, 1_600)
        for _ in range(int(np.ceil(seconds * 10)))
    ]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(parts)[: round(seconds * 16_000)], 16_000, format="FLAC")
    return file.getvalue()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set for recognition: 40 utterances of different lengths, one of exactly 20 seconds."""
    folder = tmp_path_factory.mktemp("hubert")
    lengths = [0.2 + 0.05003 * number for number in range(38)]
    files = {f"train/{n:02d}.flac": speech(seconds, n) for n, seconds in enumerate(lengths)}
    files |= {"train/long.flac": speech(20, 90), "dev/x.flac": speech(1.0, 91)}
    files["transcript.txt"] = "".join(f"{name[:-5]} 好\n" for name in files).encode()
    prepare("speech-corpus", laid_out(folder / "corpus", files), folder / "source")
    return folder / "source"


@pytest.fixture(scope="module")
def made(source: Path) -> PreparedSet:
    return prepare("hubert-units", source, source.parent / "units", options=OPTIONS)


def test_every_item_has_a_unit_for_each_frame_of_the_convolution(source: Path, made: PreparedSet) -> None:
    convolution, reader = WaveConvolution(SoundConfig(channels=4)), SoundReader(SoundConfig())
    before = PreparedSet.open(source)
    for name in ("train", "dev"):
        old, new = before.split(name), made.split(name)
        assert [each["id"] for each in old] == [each["id"] for each in new]
        for sample, was in zip(new, old, strict=True):
            assert sample["sound"] == was["sound"] and sample["transcript"] == "好"
            samples = reader.read(sample["sound"])
            _, counts = convolution(samples[None], torch.tensor([len(samples)]))
            assert len(sample["units"]) == int(counts) and set(sample["units"]) <= set(range(12))
    assert len(next(each for each in made.split("train") if each["id"] == "train/long")["units"]) == 999


def test_units_are_the_nearest_of_the_centres_that_are_kept(made: PreparedSet) -> None:
    centres = load_centres(made.path / "assets" / CENTRES)
    assert centres.shape == (12, 39)
    for sample in made.split("train")[:8]:
        (alone,) = MfccFeatures()([torch.from_numpy(SoundReader(SoundConfig()).decode(sample["sound"]))])
        agreed = sum(one == other for one, other in zip(sample["units"], nearest(alone, centres), strict=True))
        assert agreed >= 0.98 * len(alone)  # batches round differently, and a frame may lie between two centres


def test_the_manifest_says_what_the_centres_are(source: Path, made: PreparedSet) -> None:
    choices = made.manifest.choices
    frames = sum(len(each["units"]) for each in made.split("train"))
    assert choices["fitted on"] == {"split": "train", "clips": 39, "frames": frames, "seed": 0}
    assert choices["features"] == "mfcc39-1" and choices["made of"]["name"] == "speech-corpus"
    assert choices["centres sha256"] == made.manifest.assets[CENTRES]
    assert made.manifest.targets["units"] == [str(unit) for unit in range(12)]
    assert made.manifest.targets["transcript"] == ["好"] and "vocab.txt" in made.manifest.assets


def test_the_same_bytes_whatever_the_processes_and_threads(source: Path, made: PreparedSet, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        prepare("hubert-units", source, tmp_path / "set", options=OPTIONS, workers=2)
        assert torch.get_num_threads() == 2, "the caller's threads are left as they were"
    finally:
        torch.set_num_threads(threads)
    one, other = (
        {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()} for path in (made.path, tmp_path / "set")
    )
    assert one == other


def test_centres_label_other_sets(source: Path, made: PreparedSet, tmp_path: Path) -> None:
    again = prepare("hubert-units", source, tmp_path / "set", options={"centres": made.path / "assets" / CENTRES})
    assert [each["units"] for each in again.split("train")] == [each["units"] for each in made.split("train")]
    assert again.manifest.choices["centres sha256"] == made.manifest.choices["centres sha256"]
    save_centres(torch.randn(7, 39), tmp_path / "of-the-demo.safetensors")
    options = {"centres": tmp_path / "of-the-demo.safetensors"}
    assert len(prepare("hubert-units", source, tmp_path / "other", options=options).manifest.targets["units"]) == 7


def test_a_sound_that_cannot_be_decoded_any_more_is_damaged(source: Path, made: PreparedSet, tmp_path: Path) -> None:
    from skillnet_cli.prepare.writer import SetWriter

    with SetWriter(tmp_path / "source", name="some", licence="CC0", seed=0, source=()) as writer:
        writer.keep("train", "good", {}, {"sound": (speech(2, 1), ".flac")})
        writer.keep("train", "bad", {}, {"sound": (b"no sound", ".flac")})
        writer.keep("train", "silent", {"text": ["nothing"]}, {})
        writer.finish({})
    options = {"centres": made.path / "assets" / CENTRES}
    found = prepare("hubert-units", tmp_path / "source", tmp_path / "set", options=options)
    assert [each["id"] for each in found.split("train")] == ["good"] and found.manifest.licence == "CC0"
    assert [row.id for row in read_ledger(tmp_path / "set") if row.why == "damaged"] == ["bad", "silent"]


def test_mistakes(source: Path, made: PreparedSet, tmp_path: Path) -> None:
    def said(match: str, given: Any = source, **options: Any) -> None:
        with pytest.raises(UserError, match=match):
            prepare("hubert-units", given, tmp_path / "set", options=options)

    (tmp_path / "none.safetensors").write_bytes(b"nothing")
    save_file({"centres": torch.zeros(5, 13)}, tmp_path / "narrow.safetensors")
    said("not a file of centres", centres=tmp_path / "none.safetensors")
    said("not a file of centres", centres=tmp_path / "missing.safetensors")
    said("centres for other features", centres=tmp_path / "narrow.safetensors")
    said("--clusters 5: .* has 12 centres", centres=made.path / "assets" / CENTRES, clusters=5)
    said("frames are too few for 100000 clusters", clusters=100_000)
    said("give --source once", given=(source, source))
    said("not a prepared set", given=tmp_path)
