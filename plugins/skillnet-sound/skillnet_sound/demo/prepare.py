"""``skillnet prepare demo-digits`` and ``demo-speech``: speak, read the recordings back, write the sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.prepare.preparer import Preparation
from skillnet_cli.prepare.writer import SetWriter
from skillnet_sound.config import SoundConfig
from skillnet_sound.demo.phrases import DIGITS, HEARD_VOICES, UNHEARD_VOICE, digit_utterances, sentence_utterances
from skillnet_sound.demo.synthesis import Utterance, speak
from skillnet_sound.reader import SoundReader
from skillnet_sound.units import (
    CLIPS_AT_ONCE,
    CLUSTERS,
    SAMPLED_FRAMES,
    MfccFeatures,
    fit_centres,
    nearest,
    save_centres,
)

VOICES = {"voices heard": HEARD_VOICES, "voice unheard": UNHEARD_VOICE}


@dataclass(frozen=True)
class _Recording:
    """One spoken utterance: its file, and its samples as the reader gives them."""

    split: str
    utterance: Utterance
    path: Path
    samples: Tensor

    @property
    def id(self) -> str:
        """Unique within the set."""
        return f"{self.split}-{self.path.stem}"

    @property
    def media(self) -> dict[str, tuple[bytes, str]]:
        """The sample's field ``sound``: the file as it is."""
        return {"sound": (self.path.read_bytes(), self.path.suffix)}


def digits(job: Preparation) -> None:
    """``demo-digits``: two to four spoken digits and their transcripts."""
    _refuse_sources(job)
    with job.writer(choices=VOICES) as writer:
        for recording in _recordings(job, digit_utterances(job.seed), writer):
            writer.keep(recording.split, recording.id, {"transcript": recording.utterance.text}, recording.media)
        writer.finish(targets={"transcript": list(DIGITS)})


def speech(job: Preparation) -> None:
    """``demo-speech``: sentences and numbers without transcripts, and the unit of each frame (paper §4.2).

    The centres of the units lie beside the set, as ``NAME-centres.safetensors``.
    """
    _refuse_sources(job)
    with job.writer(choices={**VOICES, "clusters": CLUSTERS, "frames sampled at most": SAMPLED_FRAMES}) as writer:
        recordings = list(_recordings(job, sentence_utterances(job.seed), writer))
        features = _features(job, [recording.samples for recording in recordings])
        trained = [each for each, recording in zip(features, recordings, strict=True) if recording.split == "train"]
        centres = fit_centres(torch.cat(trained), job.seed)
        for each, recording in zip(features, recordings, strict=True):
            writer.keep(recording.split, recording.id, {"units": nearest(each, centres)}, recording.media)
        save_centres(centres, job.out.with_name(f"{job.out.name}-centres.safetensors"))
        writer.finish(targets={"units": [str(unit) for unit in range(CLUSTERS)]})


def _refuse_sources(job: Preparation) -> None:
    if job.sources:
        raise UserError(f"{job.dataset.name} is spoken here, and made of no files: leave out --source")


def _recordings(job: Preparation, plan: Mapping[str, Sequence[Utterance]], writer: SetWriter) -> Iterator[_Recording]:
    """Speak all utterances into the cache, as WAV files like any corpus's, and read each file as it is there."""
    reader = SoundReader(SoundConfig())
    for split, utterances in plan.items():
        chosen = utterances[: job.limit]
        paths = speak(chosen, job.cache / f"{job.dataset.name}-{job.seed}" / split)
        spoken = zip(chosen, job.progress.track(paths, len(chosen), f"{job.dataset.name} {split}"), strict=True)
        for utterance, path in spoken:
            try:
                yield _Recording(split, utterance, path, reader.read(path))
            except DamagedItem as error:
                writer.reject(split, f"{split}-{path.stem}", "damaged", str(error))


def _features(job: Preparation, clips: Sequence[Tensor]) -> list[Tensor]:
    mfcc, remaining = MfccFeatures(), iter(clips)
    batches = iter(lambda: list(islice(remaining, CLIPS_AT_ONCE)), [])
    total = -(-len(clips) // CLIPS_AT_ONCE)
    tracked = job.progress.track(batches, total, f"{job.dataset.name} features")
    return [features for batch in tracked for features in mfcc(batch)]
