"""The keys of ``[model.embedders.sound]``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from skillnet_sound.frames import KERNELS, SAMPLE_RATE, STRIDES, frame_count, shortest

_Samples = Annotated[PositiveInt, Field(le=10_000)]
MOST_NUMBERS = 1 << 28
"""That the first convolution makes of the longest recording: 1 GiB. The paper's 20 seconds make 33 million."""
MOST_PRODUCTS = 10**12
"""Multiplications in all convolutions over the longest recording. The paper's 20 seconds take 47 billion."""


class SoundConfig(BaseModel):
    """How waveforms are read and embedded; the defaults are the paper's (§3.3 and appendix)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_rate: PositiveInt = Field(default=SAMPLE_RATE, le=384_000)
    """In hertz; every recording is resampled to it."""
    channels: PositiveInt = Field(default=512, le=8_192)
    """The width of the seven convolutions."""
    kernels: tuple[_Samples, ...] = Field(default=KERNELS, min_length=1, max_length=32)
    strides: tuple[_Samples, ...] = Field(default=STRIDES, min_length=1, max_length=32)
    conv_norm: Literal["layer", "group"] = "layer"
    """``"layer"`` normalises every frame. ``"group"`` normalises every channel of the first convolution over a whole
    recording: only to start from wav2vec 2.0 models that do."""
    conv_bias: bool = True
    max_seconds: float = Field(default=20.0, gt=0, le=36_000)
    """Longer recordings are cut off in training, and read in windows for transcripts."""
    max_positions: PositiveInt = Field(default=1_000, le=1_000_000)

    @model_validator(mode="after")
    def _check(self) -> SoundConfig:
        if len(self.kernels) != len(self.strides):
            raise ValueError(f"{len(self.kernels)} kernels but {len(self.strides)} strides: give one of each a layer")
        numbers = self.channels * max(0, frame_count(self.max_samples, self.kernels[:1], self.strides[:1]))
        if numbers > MOST_NUMBERS:
            raise ValueError(f"channels and max_seconds make {numbers:,} numbers at once, more than {MOST_NUMBERS:,}")
        if self._products() > MOST_PRODUCTS:
            raise ValueError(f"the convolutions take {self._products():,} products, more than {MOST_PRODUCTS:,}")
        frames = frame_count(self.max_samples, self.kernels, self.strides)
        if frames > self.max_positions:
            made = f"max_seconds = {self.max_seconds:g} makes {frames} frames"
            raise ValueError(f"{made}, more than max_positions = {self.max_positions}")
        if frames < 1:
            raise ValueError(f"max_seconds = {self.max_seconds:g} is shorter than one frame")
        return self

    def _products(self) -> int:
        """Multiplications in all convolutions over the longest recording."""
        products, width = 0, 1
        for layer in range(1, len(self.kernels) + 1):
            frames = max(0, frame_count(self.max_samples, self.kernels[:layer], self.strides[:layer]))
            products += frames * self.kernels[layer - 1] * width * self.channels
            width = self.channels
        return products

    @property
    def max_samples(self) -> int:
        """The longest waveform that the model takes."""
        return int(self.max_seconds * self.sample_rate)

    @property
    def min_samples(self) -> int:
        """The shortest waveform that makes a frame."""
        return shortest(self.kernels, self.strides)
