"""The keys of ``[model.embedders.sound]``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from skillnet_sound.frames import KERNELS, SAMPLE_RATE, STRIDES, frame_count, shortest


class SoundConfig(BaseModel):
    """How waveforms are read and embedded; the defaults are the paper's (§3.3 and appendix)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_rate: PositiveInt = SAMPLE_RATE
    """In hertz; every recording is resampled to it."""
    channels: PositiveInt = 512
    """The width of the seven convolutions."""
    kernels: tuple[PositiveInt, ...] = Field(default=KERNELS, min_length=1)
    strides: tuple[PositiveInt, ...] = Field(default=STRIDES, min_length=1)
    conv_norm: Literal["layer", "group"] = "layer"
    """``"layer"`` normalises every frame. ``"group"`` normalises every channel of the first convolution over a whole
    recording: only to start from wav2vec 2.0 models that do."""
    conv_bias: bool = True
    max_seconds: float = Field(default=20.0, gt=0)
    """Longer recordings are cut off in training, and read in windows for transcripts."""
    max_positions: PositiveInt = 1_000

    @model_validator(mode="after")
    def _check(self) -> SoundConfig:
        if len(self.kernels) != len(self.strides):
            raise ValueError(f"{len(self.kernels)} kernels but {len(self.strides)} strides: give one of each a layer")
        frames = frame_count(self.max_samples, self.kernels, self.strides)
        if frames > self.max_positions:
            made = f"max_seconds = {self.max_seconds:g} makes {frames} frames"
            raise ValueError(f"{made}, more than max_positions = {self.max_positions}")
        if frames < 1:
            raise ValueError(f"max_seconds = {self.max_seconds:g} is shorter than one frame")
        return self

    @property
    def max_samples(self) -> int:
        """The longest waveform that the model takes."""
        return int(self.max_seconds * self.sample_rate)

    @property
    def min_samples(self) -> int:
        """The shortest waveform that makes a frame."""
        return shortest(self.kernels, self.strides)
