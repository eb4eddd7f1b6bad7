"""The keys of ``[model.embedders.video]``."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from skillnet_image.config import CLIP_MEAN, CLIP_STD, MOST_PATCHES, Channels, Deviations

MOST_PIXELS = 64_000_000
"""Of all frames that the model sees of a clip: some 800 MB as numbers."""
MOST_KEPT = 10_000
"""Frames of one clip."""


class VideoConfig(BaseModel):
    """How many frames of what size, in tubes of what size: the paper's values (appendix, downstream tasks).

    Of the first ``max_seconds`` of a clip ``fps`` frames a second are kept, and ``frames`` of those are seen.
    ``tube`` is (frames, pixels down, pixels across).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: PositiveInt = Field(default=224, le=4096)
    tube: tuple[PositiveInt, PositiveInt, PositiveInt] = (3, 16, 16)
    frames: PositiveInt = Field(default=6, le=1_024)
    fps: PositiveFloat = Field(default=3.0, le=1_000)
    max_seconds: PositiveFloat = Field(default=10.0, le=36_000)
    mean: Channels = CLIP_MEAN
    std: Deviations = CLIP_STD

    @model_validator(mode="after")
    def _whole_tubes(self) -> VideoConfig:
        for pixels in self.tube[1:]:
            if self.resolution % pixels:
                raise ValueError(f"resolution {self.resolution} is not a multiple of the tube's {pixels} pixels")
        if math.prod(self.grid) > MOST_PATCHES:
            raise ValueError(f"makes {math.prod(self.grid):,} tubes, more than {MOST_PATCHES:,}")
        if (pixels := -(-self.frames // self.tube[0]) * self.tube[0] * self.resolution**2) > MOST_PIXELS:
            raise ValueError(f"has clips of {pixels:,} pixels, more than {MOST_PIXELS:,}")
        if self.kept > MOST_KEPT:
            raise ValueError(f"fps and max_seconds keep {self.kept:,} frames of a clip, more than {MOST_KEPT:,}")
        return self

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tubes in time, down and across: ⌈T/t⌉, H/h, W/w (paper §3.3, Video)."""
        time, down, across = self.tube
        return -(-self.frames // time), self.resolution // down, self.resolution // across

    @property
    def kept(self) -> int:
        """The most frames that are kept of a clip."""
        return max(1, round(self.fps * self.max_seconds))
