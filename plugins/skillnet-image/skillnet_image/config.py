"""The keys of ``[model.embedders.image]``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Channels = tuple[float, float, float]
Deviations = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]

CLIP_MEAN: Channels = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Channels = (0.26862954, 0.26130258, 0.27577711)

MOST_PATCHES = 65_536
"""The most patches of a picture or tubes of a clip, far beyond what is trained: each attends to all others."""


class ImageConfig(BaseModel):
    """Pictures of ``resolution`` × ``resolution`` pixels in patches of ``patch`` × ``patch``: CLIP ViT-B/16's values.

    ``mean`` and ``std`` of red, green and blue normalise pixels scaled to 0…1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: PositiveInt = Field(default=224, le=4096)
    patch: PositiveInt = 16
    mean: Channels = CLIP_MEAN
    std: Deviations = CLIP_STD

    @model_validator(mode="after")
    def _whole_patches(self) -> ImageConfig:
        if self.resolution % self.patch:
            raise ValueError(f"resolution {self.resolution} is not a multiple of patch {self.patch}")
        if self.side**2 > MOST_PATCHES:
            raise ValueError(f"makes {self.side**2:,} patches, more than {MOST_PATCHES:,}")
        return self

    @property
    def side(self) -> int:
        """Patches along one side."""
        return self.resolution // self.patch
