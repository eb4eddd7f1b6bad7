"""Reads natural language as BERT does: cleaned, every Chinese character by itself, other words in pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from skillnet_cli.api import DamagedItem, Source, add_remark
from skillnet_text.config import TextConfig
from skillnet_text.tokenizer import text_tokenizer
from skillnet_text.tokens import TokenReader
from skillnet_text.unigram import unigram_tokenizer
from skillnet_text.vocabulary import UNK


class TextReader(TokenReader[TextConfig]):
    """Texts as ``[CLS] tokens``, pairs of texts as ``[CLS] a [SEP] b`` (paper §3.3)."""

    skill = "text"

    def __init__(self, config: TextConfig, assets: Path | None = None) -> None:
        super().__init__(config, assets)
        if self.vocabulary.scores is None:
            self._tokenizer = text_tokenizer(self.vocabulary.ids, config.lowercase, config.nfkc)
        else:
            self._tokenizer = unigram_tokenizer(self.vocabulary, config.lowercase)

    def pieces(self, text: str) -> list[int]:
        """The ids of a text's word-pieces, without special tokens. Raises DamagedItem at lone surrogates."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DamagedItem(f"character {error.start} of the text is half a surrogate pair") from error
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def frame(self, pieces: list[int]) -> list[int]:
        """``[CLS] pieces``."""
        return [self.vocabulary.cls_id, *pieces]

    def read(self, source: Source, rng: np.random.Generator | None = None) -> Int64[Tensor, " tokens"]:
        """Read one text as :meth:`TokenReader.read` does; with ``rng`` hide some of its tokens (``word_dropout``)."""
        return self._shown(super().read(source), rng)

    def _shown(self, ids: Int64[Tensor, " tokens"], rng: np.random.Generator | None) -> Int64[Tensor, " tokens"]:
        """What the model shall see of an item; what its vocabulary does not know is remarked."""
        special = (ids == self.vocabulary.cls_id) | (ids == self.vocabulary.sep_id)
        if unknown := int((ids == self.vocabulary.ids[UNK]).sum()):
            add_remark(f"has {unknown} tokens of {int((~special).sum())} that the model's vocabulary does not know")
        if rng is None or not self.config.word_dropout:
            return ids
        hidden = torch.from_numpy(rng.random(len(ids)) < self.config.word_dropout)
        return ids.masked_fill(hidden & ~special, self.vocabulary.mask_id)

    def read_pair(
        self, first: Source, second: Source, rng: np.random.Generator | None = None
    ) -> Int64[Tensor, " tokens"]:
        """Read two texts as one item, the second as another segment; the longer gives way where both do not fit.

        Raises:
            DamagedItem: as :meth:`read`.
        """
        head, tail = self._pieces(first), self._pieces(second)
        room = self._room - 1
        kept = max(room - len(tail), min(len(head), (room + 1) // 2))
        if len(head) + len(tail) > room:
            add_remark(f"is longer than {self.config.max_length} tokens: the ends of its texts do not count")
        head = head[:kept]
        return self._shown(torch.tensor([*self.frame(head), self.vocabulary.sep_id, *tail[: room - len(head)]]), rng)
