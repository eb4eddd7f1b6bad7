"""Token embeddings: token, position and segment vectors added up (paper §3.3), then a layer norm as in BERT."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from skillnet_cli.api import UserError
from skillnet_text.config import TokenConfig


class TokenEmbedder(nn.Module):
    """Packed ids to packed vectors. ``config.vocab_size`` must be filled in (readers do that)."""

    def __init__(self, config: TokenConfig, hidden: int) -> None:
        super().__init__()
        if config.vocab_size is None:
            raise UserError("vocab_size is not known: it is the size of the vocabulary, which the reader fills in")
        self.tokens = nn.Embedding(config.vocab_size, hidden)
        self.positions = nn.Embedding(config.max_length, hidden)
        self.segments = nn.Embedding(config.segment_types, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)
        for table in (self.tokens, self.positions, self.segments):
            nn.init.trunc_normal_(table.weight, std=0.02)

    @property
    def token_table(self) -> Float[Tensor, "vocabulary hidden"]:
        """The parameter of token vectors, to which a masked-token head is tied."""
        return self.tokens.weight

    def longest(self) -> dict[str, Tensor]:
        """One item of as many tokens as there are positions."""
        ids = torch.zeros(self.positions.num_embeddings, dtype=torch.int64)
        return {"ids": ids, "segments": ids, "lengths": torch.tensor([len(ids)])}

    def forward(self, batch: dict[str, Tensor]) -> tuple[Float[Tensor, "tokens hidden"], Int[Tensor, " items"]]:
        """Embed ``ids`` (tokens,) in ``segments`` (tokens,), packed by ``lengths`` (items,), which come back too."""
        ids, lengths = batch["ids"], batch["lengths"]
        total = self.tokens(ids) + self.segments(batch["segments"])
        total = total + self.positions(positions(lengths, total=len(ids)))
        return self.norm(total), lengths


def positions(lengths: Int[Tensor, " items"], total: int) -> Int[Tensor, " tokens"]:
    """0, 1, 2, … anew for every item of a packed batch of ``total`` tokens."""
    starts = lengths.cumsum(0) - lengths
    every = torch.arange(total, device=lengths.device)
    return every - starts.repeat_interleave(lengths, output_size=total)
