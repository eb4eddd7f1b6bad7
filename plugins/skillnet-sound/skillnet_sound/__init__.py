"""The skill sound: waveforms, speech recognition and masked units (paper §3.3, §4.1, §4.2)."""

from __future__ import annotations

from pathlib import Path

from skillnet_cli.api import Dataset, DatasetOption, Metric, Modality, Task, hookimpl
from skillnet_sound.datasets.layouts import AISHELL, LAYOUTS

API_VERSION = 2

SUFFIXES = (
    ".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".mp3", ".mp2", ".mp1", ".mpga", ".ogg", ".oga", ".opus",
    ".spx", ".m4a", ".m4b", ".m4r", ".3ga", ".aac", ".adts", ".latm", ".loas", ".mka", ".weba", ".wma", ".xwma",
    ".aif", ".aiff", ".aifc", ".caf", ".au", ".snd", ".amr", ".awb", ".ac3", ".eac3", ".ec3", ".dts", ".dtshd",
    ".thd", ".mlp", ".wv", ".tta", ".ape", ".tak", ".mpc", ".shn", ".vqf", ".voc", ".sph", ".nist", ".sox",
    ".ircam", ".sf", ".paf", ".pvf", ".sds", ".svx", ".8svx", ".avr", ".wve", ".htk", ".xi", ".ra", ".oma",
    ".aa3", ".qcp", ".dsf", ".lc3", ".adx", ".mmf", ".wsd", ".qoa",
)  # fmt: skip
"""How recordings are called; the content decides. Those of videos are the skill video's."""


@hookimpl
def skillnet_modalities() -> tuple[Modality, ...]:
    """Recordings, as waveforms of 16 kHz."""
    return (
        Modality(
            skill="sound",
            suffixes=SUFFIXES,
            config="skillnet_sound.config:SoundConfig",
            reader="skillnet_sound.reader:SoundReader",
            embedder="skillnet_sound.embedder:WaveEmbedder",
            augment="skillnet_sound.augment:augment",
            preview="skillnet_sound.preview:player",
            init="skillnet_sound.wav2vec:source_checkpoint",
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
    """Recordings of Mandarin, and for the demo some that are synthesised on the spot."""
    vocab = DatasetOption(
        "vocab", "The characters of transcripts, one a line. [default: those of train]", Path, metavar="FILE"
    )
    licence = "synthesised by eSpeak NG (GPL-3.0-or-later), whose licence does not cover its output"
    url = "https://github.com/espeak-ng/espeak-ng"
    return (
        Dataset(
            "aishell",
            prepare="skillnet_sound.datasets.aishell:Aishell",
            feeds=("asr",),
            licence=AISHELL.licence,
            size=AISHELL.size,
            url=AISHELL.url,
            published=AISHELL.published,
            protocols=("paper", "official"),
            options=(vocab,),
        ),
        Dataset(
            "speech-corpus",
            prepare="skillnet_sound.datasets.corpus:SpeechCorpus",
            feeds=("units", "asr"),
            licence="that of its recordings",
            size="any; with --preset up to 755 hours",
            obtain="choose one of the free corpora with --preset, or use recordings of your own",
            options=(
                DatasetOption(
                    "preset",
                    f"A corpus in its publisher's layout: {', '.join(LAYOUTS)}.",
                    metavar="NAME",
                ),
                DatasetOption(
                    "task",
                    "asr: recordings of at most 20 seconds, with transcripts; units: recordings alone, longer ones "
                    "cut. [default: asr where there are transcripts]",
                    metavar="asr|units",
                ),
                vocab,
            ),
        ),
        Dataset(
            "hubert-units",
            prepare="skillnet_sound.datasets.hubert_units:HubertUnits",
            feeds=("units",),
            licence="that of the set it is made of",
            size="that of a prepared set with sounds",
            obtain="make a set with sounds, for example speech-corpus",
            options=(
                DatasetOption("centres", "Label with these centres. [default: fit new ones]", Path, metavar="FILE"),
                DatasetOption("clusters", "How many centres to fit. [default: 100]", int, metavar="N"),
            ),
        ),
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
