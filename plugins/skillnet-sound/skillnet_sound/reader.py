"""Reads recordings as waveforms and puts several into one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from skillnet_cli.api import Batch, DamagedItem, Source, Window, add_remark
from skillnet_sound.config import SoundConfig
from skillnet_sound.decode import Block, blocks
from skillnet_sound.frames import frame_count
from skillnet_sound.level import SILENT_DECIBELS, normalise
from skillnet_sound.windows import apart, windows


class SoundReader:
    """Files and bytes of any audio format to mono samples at the model's rate and one level. It has no assets."""

    def __init__(self, config: SoundConfig, assets: Path | None = None) -> None:
        self.config = config

    def read(self, source: Source, rng: np.random.Generator | None = None) -> Float[Tensor, " samples"]:
        """The first ``max_seconds`` of a recording (paper, appendix), with zero mean and unit variance.

        ``rng`` is not used.

        Raises:
            DamagedItem: there is no such file, it cannot be decoded, is too short for one frame, or holds samples that
                are no numbers.
        """
        return _features(self.decode(source))

    def decode(self, source: Source) -> Block:
        """The same first seconds at the level that they were recorded at. Raises as :meth:`read` does."""
        kept: list[Block] = []
        missing = self.config.max_samples
        for block in blocks(source, self.config.sample_rate):
            kept.append(block[:missing])
            missing -= len(kept[-1])
            if missing == 0:
                break
        samples = np.concatenate(kept) if kept else np.zeros(0, dtype=np.float32)
        self._check(samples)
        return samples

    def split(self, source: Source) -> Iterator[Window]:
        """Windows of at most ``max_seconds``, cut at quiet points, that together are the whole recording.

        Each is normalised by itself, as an item of training is. Where nothing is louder than
        :data:`skillnet_sound.level.SILENT_DECIBELS` for a second or a whole window, that is a window without
        features. Streams: a file of an hour needs no more memory than a window. Raises as :meth:`read` does.
        """
        config, position, heard = self.config, 0, False
        parts = blocks(source, config.sample_rate)
        for samples in windows(parts, config.max_samples, config.min_samples, config.sample_rate):
            self._check(samples)
            for piece, silent in apart(samples, config.min_samples, config.sample_rate):
                end = position + len(piece)
                features = None if silent else _features(piece)
                heard = heard or not silent
                yield Window(position / config.sample_rate, end / config.sample_rate, features)
                position = end
        if position == 0:
            raise DamagedItem("holds no sound")
        if not heard:
            add_remark(f"is silent: nothing in it is louder than {SILENT_DECIBELS:g} dB of full scale")

    def length(self, features: Float[Tensor, " samples"]) -> int:
        """Frames and ``[CLS]``."""
        return 1 + frame_count(len(features), self.config.kernels, self.config.strides)

    def collate(self, features: Sequence[Float[Tensor, " _"]]) -> Batch:
        """``samples`` (items, longest) zero padded, ``lengths`` (items,) in samples."""
        lengths = torch.tensor([len(samples) for samples in features], dtype=torch.int64)
        return {"samples": pad_sequence(list(features), batch_first=True), "lengths": lengths}

    def save(self, folder: Path) -> None:
        """Nothing to write: the configuration is complete by itself."""

    def _check(self, samples: Block) -> None:
        if len(samples) == 0:
            raise DamagedItem("holds no sound")
        if len(samples) < self.config.min_samples:
            seconds = len(samples) / self.config.sample_rate
            raise DamagedItem(f"{seconds:.3f} seconds are too short for one frame")


def _features(samples: Block) -> Float[Tensor, " samples"]:
    return torch.from_numpy(normalise(samples))
