"""The keys of ``[model.embedders.text]``, and what they share with other modalities of tokens."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class TokenConfig(BaseModel):
    """The keys that every modality of word-piece tokens has.

    Attributes:
        vocab: the vocabulary file, one piece a line; a saved model includes its own and needs none.
        max_length: the most tokens of one item, special tokens included (paper, appendix: 512).
        segment_types: how many kinds of segments the embedder distinguishes.
        vocab_size: the number of pieces; the reader fills it in from the vocabulary.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab: Path | None = None
    max_length: int = Field(default=512, ge=4, le=65_536)
    segment_types: int = Field(default=2, ge=1, le=1_024)
    vocab_size: int | None = Field(default=None, ge=1, le=10_000_000)


class TextConfig(TokenConfig):
    """The keys of ``[model.embedders.text]``.

    Attributes:
        lowercase: must match how the vocabulary was made.
        nfkc: read full-width and other compatible characters as the usual ones (Unicode's NFKC); a vocabulary of
            sentence pieces always does. BERT does not: ``false`` where a model must read every text as BERT would.
        word_dropout: the share of a text's tokens that training shows as ``[MASK]`` (word dropout, Iyyer et al. 2015);
            it keeps a model that sees few texts many times from memorising them.
    """

    lowercase: bool = True
    nfkc: bool = True
    word_dropout: float = Field(default=0.0, ge=0, lt=1)
