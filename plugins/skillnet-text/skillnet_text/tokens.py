"""The common part of all readers of word-piece tokens; each subclass defines how a text becomes pieces."""

from __future__ import annotations

import itertools
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
            DamagedItem: the file cannot be read, is no text, or holds no piece.
        """
        pieces = self._pieces(source)
        if len(pieces) > self._room:
            add_remark(f"is longer than {self.config.max_length} tokens: only its beginning counts")
        return self._sequence(pieces[: self._room])

    def split(self, source: Source) -> Iterator[Window]:
        """Read a text of any length as windows of ``max_length`` tokens; starts and ends count its pieces."""
        pieces, start = self._all_pieces(source), 0
        while part := list(itertools.islice(pieces, self._room)):
            yield Window(float(start), float(start + len(part)), self._sequence(part))
            start += len(part)

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

    def open(self, source: Source) -> str:
        """The text of a source, see :func:`~skillnet_text.files.open_text`."""
        return open_text(source)

    def _pieces(self, source: Source) -> list[int]:
        """The first pieces of a source, and one more than there is room for where it has more."""
        return list(itertools.islice(self._all_pieces(source), self._room + 1))

    def _all_pieces(self, source: Source) -> Iterator[int]:
        """All pieces of a source; a tokenizer takes some 200 bytes of memory for a character, so not all at a time."""
        found = False
        for block in blocks(self.open(source)):
            pieces = self.pieces(block)
            found = found or bool(pieces)
            yield from pieces
        if not found:
            raise DamagedItem("the text has no readable character")

    def _sequence(self, pieces: list[int]) -> Int64[Tensor, " tokens"]:
        return torch.tensor(self.frame(pieces))


def blocks(text: str, size: int = 1 << 15) -> Iterator[str]:
    """A text in blocks of at most ``size`` characters, cut where words end, so that their pieces are the text's.

    Only a word, or a run of marks, that is half as long as a block may be cut itself.
    """
    start = 0
    while len(text) - start > size:
        ends = range(start + size, start + size // 2, -1)
        blank = (at for at in ends if text[at].isspace() and not text[at - 1].isspace())
        word = (at for at in ends if text[at - 1].isalnum() and not text[at].isalnum())
        end = next(blank, None) or next(word, start + size)
        yield text[start:end]
        start = end
    yield text[start:]
