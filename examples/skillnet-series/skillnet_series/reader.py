"""From a file of readings, one number a line, to windows of equal length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor

from skillnet_cli.api import Batch, DamagedItem, Source, Window


class SeriesConfig(BaseModel):
    """The keys of ``[model.embedders.series]``."""

    model_config = ConfigDict(extra="forbid")

    window: PositiveInt = 8
    """Readings in a token."""
    longest: PositiveInt = 64
    """Tokens in an item; what follows is left out."""
    rate: PositiveFloat = 1.0
    """Readings in a second."""


class SeriesReader:
    """Reads one run: scaled to mean 0 and deviation 1, the last window filled with zeros."""

    def __init__(self, config: SeriesConfig, assets: Path | None = None) -> None:
        self.config = config

    def read(self, source: Source, rng: np.random.Generator | None = None) -> Float[Tensor, "windows window"]:
        """Read the first ``longest`` windows of a run. Raises DamagedItem where a line is no number."""
        return self._windows(parse(source))[: self.config.longest]

    def split(self, source: Source) -> Iterator[Window]:
        """Cut a run of any length into pieces of ``longest`` windows."""
        readings, step = parse(source), self.config.window * self.config.longest
        for start in range(0, len(readings), step):
            piece = readings[start : start + step]
            seconds = start / self.config.rate
            yield Window(seconds, seconds + len(piece) / self.config.rate, self._windows(piece))

    def length(self, features: Float[Tensor, "windows window"]) -> int:
        """One token a window, and the ``[CLS]``."""
        return len(features) + 1

    def collate(self, features: Sequence[Float[Tensor, "_ window"]]) -> Batch:
        """``windows`` of all items one after another, and how many each has."""
        return {"windows": torch.cat(list(features)), "lengths": torch.tensor([len(item) for item in features])}

    def save(self, folder: Path) -> None:
        """Nothing to write: the configuration says everything."""

    def _windows(self, readings: np.ndarray) -> Float[Tensor, "windows window"]:
        scaled = (readings - readings.mean()) / (readings.std() + 1e-6)
        filled = np.pad(scaled, (0, -len(scaled) % self.config.window))
        return torch.from_numpy(filled.astype(np.float32)).view(-1, self.config.window)


def jitter(features: Float[Tensor, "windows window"], rng: np.random.Generator) -> Float[Tensor, "windows window"]:
    """Readings of a slightly worse sensor."""
    return features + 0.05 * torch.from_numpy(rng.standard_normal(features.shape, dtype=np.float32))


def parse(source: Source) -> np.ndarray:
    """The readings of a file or its bytes (readings,). Raises DamagedItem where a line is no number."""
    if isinstance(source, str):  # of a set: a path there would be anyone's choice
        raise DamagedItem("is a text, not a run of readings")
    content = source if isinstance(source, bytes) else source.read_bytes()
    try:
        readings = np.array([float(line) for line in content.decode().split()])
    except ValueError as error:
        raise DamagedItem(f"not one number a line: {error}") from error
    if not len(readings) or not np.isfinite(readings).all():
        raise DamagedItem("it holds no readings, or one that is no finite number")
    return readings
