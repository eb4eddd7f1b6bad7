"""Readers and embedders of the toy plugin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from toy_config import ToyConfig
from toy_faults import strike

from skillnet_cli.api import DamagedItem, Window

CLS, MASK, FIRST = 0, 1, 2
FRAMES_A_LETTER = 3
WIDTH = 4


@dataclass(frozen=True)
class Letters:
    """The vocabulary that the masked-token objective asks for."""

    size: int
    mask_id: int = MASK
    special_ids: frozenset[int] = frozenset({CLS, MASK})


class LetterReader:
    """A word as ``[CLS]`` and its letters."""

    def __init__(self, config: ToyConfig, assets: Path | None = None) -> None:
        self.config = config
        self.vocabulary = Letters(FIRST + config.letters)

    def read(self, source: Any, rng: np.random.Generator | None = None) -> Tensor:
        if "?" in source:
            raise DamagedItem("a question mark is no letter")
        return torch.tensor([CLS] + [FIRST + ord(letter) - ord("a") for letter in source])

    def split(self, source: Any) -> Iterator[Window]:
        return iter(())

    def length(self, features: Tensor) -> int:
        return len(features)

    def collate(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"ids": torch.cat(list(features)), "lengths": torch.tensor([len(each) for each in features])}

    def save(self, folder: Path) -> None:
        (folder / "alphabet.txt").write_text("abcdefgh")


class WaveReader(LetterReader):
    """A recording: WIDTH signed bytes a frame, FRAMES_A_LETTER frames a letter."""

    def read(self, source: Any, rng: np.random.Generator | None = None) -> Tensor:
        samples = np.frombuffer(source, dtype=np.int8)
        if len(samples) == 0 or len(samples) % WIDTH:
            raise DamagedItem(f"{len(samples)} bytes are no recording")
        return torch.from_numpy(samples.astype(np.float32) / 64).reshape(-1, WIDTH)

    def length(self, features: Tensor) -> int:
        return 1 + len(features)

    def collate(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"frames": torch.cat(list(features)), "lengths": torch.tensor([len(each) for each in features])}


def positions(lengths: Tensor) -> Tensor:
    return torch.cat([torch.arange(int(length)) for length in lengths])


class LetterEmbedder(nn.Module):
    """Letters and positions."""

    def __init__(self, config: ToyConfig, hidden: int) -> None:
        super().__init__()
        self.size = config.longest
        self.tokens = nn.Embedding(FIRST + config.letters, hidden)
        self.positions = nn.Embedding(config.longest, hidden)
        self.norm = nn.LayerNorm(hidden)

    @property
    def token_table(self) -> nn.Parameter:
        return self.tokens.weight

    def longest(self) -> dict[str, Tensor]:
        return {"ids": torch.zeros(self.size, dtype=torch.int64), "lengths": torch.tensor([self.size])}

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        tokens = self.tokens(batch["ids"]) + self.positions(positions(batch["lengths"]))
        return strike(self.norm(tokens)), batch["lengths"]


class WaveEmbedder(nn.Module):
    """Frames projected to the width, ``[CLS]`` in front, hidden frames replaced by one vector."""

    def __init__(self, config: ToyConfig, hidden: int) -> None:
        super().__init__()
        self.size = config.longest
        self.projection = nn.Linear(WIDTH, hidden)
        self.positions = nn.Embedding(config.longest, hidden)
        self.cls = nn.Parameter(torch.randn(hidden))
        self.hidden_frame = nn.Parameter(torch.randn(hidden))
        self.norm = nn.LayerNorm(hidden)

    def longest(self) -> dict[str, Tensor]:
        return {"frames": torch.zeros(self.size - 1, WIDTH), "lengths": torch.tensor([self.size - 1])}

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        lengths = batch["lengths"] + 1
        places = positions(lengths)
        tokens = self.cls.expand(len(places), -1).clone()
        tokens[places > 0] = self.projection(batch["frames"]).to(tokens.dtype)
        if "mask" in batch:
            tokens = torch.where(batch["mask"][:, None], self.hidden_frame, tokens)
        return strike(self.norm(tokens + self.positions(places))), lengths
