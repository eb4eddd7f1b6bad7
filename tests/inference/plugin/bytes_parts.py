"""Reader, embedder, metric and preparers of the plugin for tests: every item is its bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from skillnet_cli.api import DamagedItem, FailedJob, UserError, Window

CLS, MASK, FIRST = 0, 1, 2
WINDOW = 8
"""Bytes a second and a window."""

NORMALISER = "none at all"
WORDS = [first + second for first in "abcdef" for second in "uvwxyz"]


class BytesConfig(BaseModel):
    """The keys of ``[model.embedders.SKILL]``."""

    model_config = ConfigDict(extra="forbid")
    longest: int = Field(default=64, ge=1, le=100_000)


@dataclass(frozen=True)
class Letters:
    """The vocabulary of bytes."""

    size: int = FIRST + 256
    mask_id: int = MASK
    special_ids: frozenset[int] = frozenset({CLS, MASK})


class BytesReader:
    """Bytes as tokens; a ``!`` makes an item damaged, and so does being empty."""

    def __init__(self, config: BytesConfig, assets: Path | None = None) -> None:
        self.config = config
        self.vocabulary = Letters()

    def read(self, source: Any, rng: np.random.Generator | None = None) -> Tensor:
        content = source.read_bytes() if isinstance(source, Path) else source
        content = content.encode() if isinstance(content, str) else content
        return self._tokens(content[: self.config.longest - 1])

    def split(self, source: Any) -> Iterator[Window]:
        content = source.read_bytes() if isinstance(source, Path) else source
        for start in range(0, len(content), WINDOW):
            piece = content[start : start + WINDOW]
            yield Window(start / WINDOW, (start + len(piece)) / WINDOW, self._tokens(piece))

    def length(self, features: Tensor) -> int:
        return len(features)

    def collate(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"ids": torch.cat(list(features)), "lengths": torch.tensor([len(each) for each in features])}

    def save(self, folder: Path) -> None:
        (folder / "letters.txt").write_text("256")

    def _tokens(self, content: bytes) -> Tensor:
        if not content or b"!" in content:
            raise DamagedItem("it is empty" if not content else "an exclamation mark cannot be read")
        return torch.tensor([CLS, *(FIRST + byte for byte in content)])


class BytesEmbedder(nn.Module):
    """Bytes and positions."""

    def __init__(self, config: BytesConfig, hidden: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(FIRST + 256, hidden)
        self.positions = nn.Embedding(config.longest, hidden)
        self.norm = nn.LayerNorm(hidden)

    @property
    def token_table(self) -> nn.Parameter:
        return self.tokens.weight

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        places = torch.cat([torch.arange(int(length)) for length in batch["lengths"]])
        tokens = self.tokens(batch["ids"])
        if "mask" in batch:
            tokens = torch.where(batch["mask"][:, None], torch.zeros_like(tokens), tokens)
        return self.norm(tokens + self.positions(places)), batch["lengths"]


def misses(predictions: Sequence[str], references: Sequence[str]) -> float:
    """The share of transcripts that are not exact."""
    return sum(map(str.__ne__, predictions, references)) / len(references)


def preview(source: Any) -> str:
    """Bytes as hexadecimal digits, nothing where they cannot be shown."""
    source = source.read_bytes() if isinstance(source, Path) else source
    if b"!" in source:
        raise DamagedItem("an exclamation mark cannot be shown")
    return f"<code>{escape(source.hex())}</code>"


def prepare_pairs(job: Any) -> None:
    with job.writer() as writer:
        for split, words in {"train": WORDS, "test": WORDS[::2]}.items():
            for number, word in enumerate(words):
                content = (b"!" if word == "au" else word.encode()) * 3
                fields = {"word": [word, word[::-1]], "label": word[0]}
                writer.keep(split, f"{word}-{number}", fields, {"shape": (content, ".shape")})
        writer.finish({"label": list("abcdef")})


def prepare_hums(job: Any) -> None:
    with job.writer() as writer:
        for split in ("train", "test"):
            for word in WORDS[:6]:
                fields = {"transcript": word, "units": [1, 2, 3, 4, 5, 6]}
                hum = (word.encode() * 3, ".hum")
                writer.keep(split, word, fields, {"hum": hum, "lone": hum})
        writer.finish({"transcript": list("abcuvwxyz"), "units": [str(unit) for unit in range(8)]})


def prepare_broken(job: Any) -> None:
    if job.sources == ("mistake",):
        raise UserError("mistake: there is no such folder")
    raise FailedJob("the machine is on fire")


def learn(texts: Iterable[str], size: int, out: Path) -> None:
    """The commonest letters."""
    counts = Counter(letter for text in texts for letter in text)
    out.write_text("".join(f"{letter}\n" for letter, _ in counts.most_common(size)))
