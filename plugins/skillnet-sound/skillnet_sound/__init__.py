"""The skill sound: waveforms, speech recognition and masked units (paper §3.3, §4.1, §4.2)."""

from __future__ import annotations

from skillnet_cli.api import Dataset, Metric, Modality, Task, hookimpl

API_VERSION = 1

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".wma", ".aif", ".aiff", ".amr")


@hookimpl
def skillnet_modalities() -> tuple[Modality, ...]:
    """Recordings, as waveforms of 16 kHz."""
    return (
        Modality(
            skill="sound",
            suffixes=(
                ".wav",
                ".flac",
                ".mp3",
                ".ogg",
                ".oga",
                ".opus",
                ".m4a",
                ".aac",
                ".wma",
                ".aif",
                ".aiff",
                ".amr",
            ),
            config="skillnet_sound.config:SoundConfig",
            reader="skillnet_sound.reader:SoundReader",
            embedder="skillnet_sound.embedder:WaveEmbedder",
            augment="skillnet_sound.augment:augment",
            preview="skillnet_sound.preview:player",
            init="skillnet_sound.wav2vec:donor",
        ),
    )


@hookimpl
def skillnet_tasks() -> tuple[Task, ...]:
    """Speech recognition, and the prediction of masked frames' clusters."""
    return (
        Task("asr", towers=(("sound",),), objective="ctc", target="transcript", metrics=("cer",)),
        Task("units", towers=(("sound",),), objective="masked-units", target="units", metrics=("accuracy",)),
    )


@hookimpl
def skillnet_metrics() -> tuple[Metric, ...]:
    """The character error rate."""
    return (Metric("cer", compute="skillnet_sound.cer:cer", higher_is_better=False),)


@hookimpl
def skillnet_datasets() -> tuple[Dataset, ...]:
    """Mandarin speech for the demo, synthesised on the spot."""
    licence = "synthesised by eSpeak NG (GPL-3.0-or-later), whose licence does not cover its output"
    url = "https://github.com/espeak-ng/espeak-ng"
    return (
        Dataset(
            "demo-digits",
            prepare="skillnet_sound.demo.prepare:digits",
            feeds=("asr",),
            licence=licence,
            size="3,000 digit strings to train on, 150 to develop, 300 to test; 36 minutes",
            url=url,
            part_of="demo",
        ),
        Dataset(
            "demo-speech",
            prepare="skillnet_sound.demo.prepare:speech",
            feeds=("units",),
            licence=licence,
            size="2,000 sentences and numbers to train on, 100 to develop, 200 to test; 46 minutes",
            url=url,
            part_of="demo",
        ),
    )
