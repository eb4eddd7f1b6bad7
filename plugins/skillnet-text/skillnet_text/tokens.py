"""The common part of all readers of word-piece tokens; each subclass defines how a text becomes pieces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from skillnet_cli.api import DamagedItem, Source, UserError, Window, add_remark
from skillnet_text.config import TokenConfig
from skillnet_text.files import open_text
from skillnet_text.vocabulary import Vocabulary

VOCABULARY_FILE = "vocab.txt"
Config = TypeVar("Config", bound=TokenConfig)


class TokenReader(ABC, Generic[Config]):
    """Reads texts of one kind as token ids, at most ``config.max_length`` of them, ``[CLS]`` first.

    Args:
        config: the modality's configuration; :attr:`config` is the same with ``vocab_size`` filled in.
        assets: a folder written by :meth:`save`; without it the vocabulary is read from ``config.vocab``.

    Raises:
        UserError: there is no vocabulary, or its size is not ``config.vocab_size``.
    """

    skill: str

    def __init__(self, config: Config, assets: Path | None = None) -> None:
        path = assets / VOCABULARY_FILE if assets else config.vocab
        if path is None:
            raise UserError(
                f"model.embedders.{self.skill} names no vocabulary: make one with 'skillnet prepare vocab "
                f"--modality {self.skill}' and set 'vocab' to its path"
            )
        self.vocabulary = Vocabulary.load(path)
        size = self.vocabulary.size
        if config.vocab_size not in (None, size):
            wanted = f"model.embedders.{self.skill}.vocab_size is {config.vocab_size}"
            raise UserError(f"{path} has {size} pieces, but {wanted}")
        self.config = config.model_copy(update={"vocab_size": size})

    @abstractmethod
    def pieces(self, text: str) -> list[int]:
        """The ids of a text's pieces, without special tokens and of any number."""

    @abstractmethod
    def frame(self, pieces: list[int]) -> list[int]:
        """The same ids with the special tokens that a sequence of this modality has."""

    def read(self, source: Source, rng: np.random.Generator | None = None) -> Int64[Tensor, " tokens"]:
        """Read one text; what exceeds ``max_length`` is cut off, and remarked.

        Raises:
            DamagedItem: the file cannot be read, is not UTF-8, or holds no piece.
        """
        pieces = self._pieces(source)
        if len(pieces) > self._room:
            add_remark(f"is longer than {self.config.max_length} tokens: only its beginning counts")
        return self._sequence(pieces[: self._room])

    def split(self, path: Path) -> Iterator[Window]:
        """Read a file of any length as windows of ``max_length`` tokens; starts and ends count its pieces."""
        pieces = self._pieces(path)
        for start in range(0, len(pieces), self._room):
            part = pieces[start : start + self._room]
            yield Window(float(start), float(start + len(part)), self._sequence(part))

    def length(self, features: Int64[Tensor, " tokens"]) -> int:
        """How many tokens the embedder will make of these ids."""
        return len(features)

    def collate(self, features: Sequence[Int64[Tensor, " _"]]) -> dict[str, Tensor]:
        """Pack items: ``ids`` and ``segments`` (tokens,), ``lengths`` (items,), all int64."""
        return {
            "ids": torch.cat(list(features)),
            "lengths": torch.tensor([len(ids) for ids in features]),
            "segments": torch.cat([self.segments(ids) for ids in features]),
        }

    def segments(self, ids: Int64[Tensor, " tokens"]) -> Int64[Tensor, " tokens"]:
        """0 up to the first ``[SEP]``, that included, and 1 behind it."""
        separators = (ids == self.vocabulary.sep_id).long()
        return (separators.cumsum(0) - separators).clamp(max=self.config.segment_types - 1)

    def save(self, folder: Path) -> None:
        """Write the vocabulary into ``folder``."""
        self.vocabulary.save(folder / VOCABULARY_FILE)

    @property
    def _room(self) -> int:
        """How many pieces fit beside the special tokens."""
        return self.config.max_length - len(self.frame([]))

    def _pieces(self, source: Source) -> list[int]:
        pieces = self.pieces(open_text(source))
        if not pieces:
            raise DamagedItem("the text has no readable character")
        return pieces

    def _sequence(self, pieces: list[int]) -> Int64[Tensor, " tokens"]:
        return torch.tensor(self.frame(pieces))
