"""What ``[model.embedders.SKILL]`` may say for the toy skills."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveInt


class ToyConfig(BaseModel):
    """The longest item, and how many letters there are."""

    model_config = ConfigDict(extra="forbid")

    longest: PositiveInt = 64
    letters: PositiveInt = 8
