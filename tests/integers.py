"""Toy modalities for tests of the core: token ids in a string of integers, embedded by a table and positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from skillnet_cli.api import Batch, DamagedItem, Modality, Source, Task, Window
from skillnet_cli.plugins import Plugin, Registry, build_registry

SPECIAL = 3  # [PAD], [CLS], [MASK]


class ToyConfig(BaseModel):
    """Keys of a toy embedder."""

    model_config = ConfigDict(extra="forbid")
    vocabulary: int = 20
    longest: int = 64


@dataclass(frozen=True)
class ToyVocabulary:
    """The ids 0 to 2 are special."""

    size: int
    mask_id: int = 2
    special_ids: frozenset[int] = frozenset({0, 1, 2})


class ToyReader:
    """Reads ``"3 4 5"`` as the ids [CLS] 3 4 5."""

    def __init__(self, config: ToyConfig, assets: Path | None = None) -> None:
        self.config = config
        self.vocabulary = ToyVocabulary(config.vocabulary)

    def read(self, source: Source, rng: np.random.Generator | None = None) -> Tensor:
        text = source.decode() if isinstance(source, bytes) else str(source)
        try:
            ids = [1, *map(int, text.split())]
        except ValueError as error:
            raise DamagedItem(f"not numbers: {text!r}") from error
        return torch.tensor(ids)

    def split(self, source: Source) -> Iterator[Window]:
        yield Window(0.0, 1.0, self.read(source.read_text() if isinstance(source, Path) else source))

    def length(self, features: Tensor) -> int:
        return len(features)

    def collate(self, features: Sequence[Tensor]) -> Batch:
        return {"ids": torch.cat(list(features)), "lengths": torch.tensor([len(each) for each in features])}

    def save(self, folder: Path) -> None:
        (folder / "toy.txt").write_text("toy\n")


class ToyEmbedder(nn.Module):
    """A table, positions, a norm; hidden tokens become a learnt vector."""

    def __init__(self, config: ToyConfig, hidden: int) -> None:
        super().__init__()
        self.table = nn.Embedding(config.vocabulary, hidden)
        self.positions = nn.Embedding(config.longest, hidden)
        self.hidden = nn.Parameter(torch.zeros(hidden))
        self.norm = nn.LayerNorm(hidden)

    @property
    def token_table(self) -> nn.Parameter:
        return self.table.weight

    def longest(self) -> Batch:
        length = self.positions.num_embeddings
        return {"ids": torch.full((length,), 3), "lengths": torch.tensor([length])}

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        lengths = batch["lengths"]
        positions = torch.cat([torch.arange(int(length)) for length in lengths])
        tokens = self.table(batch["ids"])
        if "mask" in batch:
            tokens = torch.where(batch["mask"][:, None], self.hidden, tokens)
        return self.norm(tokens + self.positions(positions)), lengths


def toy_modality(skill: str) -> Modality:
    """A toy modality of that skill."""
    return Modality(
        skill=skill,
        suffixes=(f".{skill}",),
        config="tests.integers:ToyConfig",
        reader="tests.integers:ToyReader",
        embedder="tests.integers:ToyEmbedder",
    )


TASKS = (
    Task("classify", (("alpha",),), "classification", "label", ("accuracy",)),
    Task("spell", (("beta",),), "ctc", "transcript"),
    Task("match", (("alpha",), ("beta",)), "contrastive", None, ("recall@1",)),
    Task("fill", (("alpha",),), "masked-tokens"),
    Task("fill-both", (("alpha", "gamma"),), "masked-tokens"),
    Task("guess", (("beta",),), "masked-units", "units"),
)


def toy_registry() -> Registry:
    """Three toy skills and a task of every objective."""
    skills = tuple(toy_modality(skill) for skill in ("alpha", "beta", "gamma"))
    return build_registry([Plugin("toy", "skillnet-toy", "1.0", modalities=skills, tasks=TASKS)])
