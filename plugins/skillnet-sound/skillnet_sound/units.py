"""Units of speech: k-means over MFCC, the targets of masked units (paper §4.2, sound)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchaudio.functional import compute_deltas
from torchaudio.transforms import MFCC

from skillnet_cli.api import UserError
from skillnet_cli.files import write_whole
from skillnet_sound.frames import SAMPLE_RATE

CLUSTERS = 100
COEFFICIENTS = 13
WINDOW, HOP = 400, 160
"""25 and 10 ms at 16 kHz. Without centring, every second frame begins where a frame of the convolution does."""

SAMPLED_FRAMES = 200_000
"""Frames that k-means is fitted on at most: more changed nothing that we could measure."""

CLIPS_AT_ONCE = 16
"""MFCC of a batch of clips are ten times as fast as of single ones; larger batches gain nothing."""

FEATURES = "mfcc39-1"
"""What centres are in the space of; another version of the features has other centres."""

FACTS = "skillnet"
"""The key of a file's metadata. There is one only: safetensors writes several in any order."""


class MfccFeatures:
    """39 numbers for each frame of the convolution: 13 coefficients, their differences and the differences' own."""

    def __init__(self) -> None:
        mel = {"n_fft": WINDOW, "hop_length": HOP, "n_mels": 40, "center": False}
        # The logarithm of the mels, not decibels: those are cut off relative to the loudest clip of a batch.
        self._mfcc = MFCC(SAMPLE_RATE, n_mfcc=COEFFICIENTS, log_mels=True, melkwargs=mel)

    def __call__(self, clips: Sequence[Float[Tensor, " _"]]) -> list[Float[Tensor, "_ 39"]]:
        """The features of each clip (at least 400 samples at 16 kHz), which do not depend on the other clips."""
        counts = torch.tensor([1 + (len(clip) - WINDOW) // HOP for clip in clips])
        plain = _hold_last(self._mfcc(pad_sequence(list(clips), batch_first=True)), counts)
        slope = _hold_last(compute_deltas(plain), counts)
        together = torch.cat([plain, slope, compute_deltas(slope)], dim=1).transpose(1, 2)
        return [features[:count:2] for features, count in zip(together, counts.tolist(), strict=True)]


def _hold_last(values: Float[Tensor, "clips 13 frames"], counts: Tensor) -> Float[Tensor, "clips 13 frames"]:
    """Repeat each clip's last of ``counts`` (clips,) frames through its padding, as differences need at the end."""
    index = torch.arange(values.shape[2]).minimum(counts[:, None] - 1)
    return values.gather(2, index[:, None].expand_as(values))


def fit_centres(
    features: Float[Tensor, "frames 39"], seed: int, clusters: int = CLUSTERS
) -> Float[Tensor, "clusters 39"]:
    """k-means centres of a seeded sample of at most ``SAMPLED_FRAMES`` frames.

    Args:
        features: of the frames to choose from.
        seed: of the sample and of k-means.
        clusters: how many centres.

    Raises:
        UserError: there are fewer frames than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    if len(features) < clusters:
        raise UserError(f"{len(features)} frames are too few for {clusters} clusters: use more recordings")
    chosen = np.random.default_rng(seed).permutation(len(features))[:SAMPLED_FRAMES]
    means = MiniBatchKMeans(clusters, batch_size=10_000, n_init=1, max_iter=50, random_state=seed)
    centres = means.fit(features[torch.from_numpy(np.sort(chosen))].numpy()).cluster_centers_
    return torch.from_numpy(centres.astype(np.float32))


def nearest(features: Float[Tensor, "frames 39"], centres: Float[Tensor, "clusters 39"]) -> list[int]:
    """The unit of each frame: the number of its nearest centre."""
    units: list[int] = torch.cdist(features, centres).argmin(dim=1).tolist()
    return units


def save_centres(centres: Float[Tensor, "clusters 39"], path: Path) -> None:
    """Write centres as safetensors, whole or not at all."""
    write_whole(path, save({"centres": centres}))


def pack_centres(centres: Float[Tensor, "clusters 39"], facts: Mapping[str, Any]) -> bytes:
    """Centres as safetensors, with what they were fitted on."""
    return save({"centres": centres}, {FACTS: json.dumps({"features": FEATURES, **facts}, sort_keys=True)})


def load_centres(path: Path) -> Float[Tensor, "clusters 39"]:
    """Read what :func:`save_centres` or :func:`pack_centres` wrote.

    Raises:
        UserError: the file holds no centres, or those of other features.
    """
    try:
        with safe_open(path, "pt") as file:
            features = json.loads((file.metadata() or {}).get(FACTS, "{}")).get("features", FEATURES)
            centres = file.get_tensor("centres")
    except (OSError, SafetensorError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a file of centres ({error})") from error
    if features != FEATURES or centres.ndim != 2 or centres.shape[1] != 3 * COEFFICIENTS or not len(centres):
        shape = " × ".join(map(str, centres.shape))
        raise UserError(f"{path}: centres for other features ({features}, {shape}) than {FEATURES}: fit new ones")
    return centres.float()


def label(
    clips: Sequence[Float[Tensor, " _"]], mfcc: MfccFeatures, centres: Float[Tensor, "clusters 39"]
) -> list[list[int]]:
    """The units of each clip, one a frame of the convolution; clips of like length share a batch.

    Args:
        clips: samples at 16 kHz.
        mfcc: the features.
        centres: what :func:`fit_centres` returned.
    """
    order = sorted(range(len(clips)), key=lambda place: len(clips[place]))
    units: list[list[int]] = [[]] * len(clips)
    for start in range(0, len(order), CLIPS_AT_ONCE):
        places = order[start : start + CLIPS_AT_ONCE]
        for place, features in zip(places, mfcc([clips[place] for place in places]), strict=True):
            units[place] = nearest(features, centres)
    return units


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: sums of several come in any order, and each process has a core of its own."""
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
