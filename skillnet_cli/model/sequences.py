"""A tower: embeds the segments of a batch, joins them into packed sequences, and encodes these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from skillnet_cli.api import Batch
from skillnet_cli.model.encoder import Encoder, Routes
from skillnet_cli.objectives.base import Encoded


class Tower(nn.Module):
    """One encoder pass of a task: an embedder for each skill, and the encoder that all their tokens go through.

    Attributes:
        place: what the names of its parameters in the model begin with.
    """

    def __init__(self, embedders: nn.ModuleDict, encoder: Encoder, place: str = "") -> None:
        super().__init__()
        self.embedders = embedders
        self.encoder = encoder
        self.place = place

    def forward(self, skills: Sequence[str], batches: Sequence[Batch], recompute: bool = False) -> Encoded:
        """Encode a batch of sequences.

        Args:
            skills: that of each segment.
            batches: for each segment what the skill's reader collated.
            recompute: as in :meth:`Encoder.forward`.
        """
        segments = [Segment(skill, *self.embedders[skill](batch)) for skill, batch in zip(skills, batches, strict=True)]
        joined = join(segments)
        tokens, usage = self.encoder(joined.tokens, joined.lengths, joined.routes, recompute)
        return Encoded(tokens, joined.lengths, joined.cls_rows, joined.rows, usage)


@dataclass(frozen=True)
class Segment:
    """What one skill's embedder made of a batch: packed tokens, each item's [CLS] first."""

    skill: str
    tokens: Float[Tensor, "tokens hidden"]
    lengths: Int[Tensor, " items"]


@dataclass(frozen=True)
class _Sequences:
    """A tower ready for the encoder. ``rows`` has each segment's tokens' rows, -1 for a [CLS] left out."""

    tokens: Float[Tensor, "T hidden"]
    lengths: Int[Tensor, " items"]
    routes: Routes
    cls_rows: Int[Tensor, " items"]
    rows: tuple[Int[Tensor, " _"], ...]


def join(segments: Sequence[Segment]) -> _Sequences:
    """Put each item's segments one after another (paper §4.2, code); the last one's [CLS] stands for the sequence.

    The other segments lose theirs. The order of tokens within a sequence carries no meaning: attention knows
    positions only from the embedders.
    """
    last = segments[-1]
    if len(segments) == 1:
        every = torch.arange(len(last.tokens), device=last.lengths.device)
        return _Sequences(last.tokens, last.lengths, Routes((last.skill,)), _starts(last.lengths), (every,))
    kept = [segment.lengths - 1 for segment in segments[:-1]] + [last.lengths]
    lengths = torch.stack(kept).sum(0)
    rows = []
    begin = _starts(lengths)
    for segment, count in zip(segments, kept, strict=True):
        rows.append(_rows(segment, begin, left_out=segment is not last))
        begin = begin + count
    return _interleave(segments, lengths, tuple(rows), cls_rows=begin - last.lengths)


def _starts(lengths: Int[Tensor, " items"]) -> Int[Tensor, " items"]:
    """The row of each item's first token when the items are packed."""
    return lengths.cumsum(0) - lengths


def _rows(segment: Segment, begin: Int[Tensor, " items"], left_out: bool) -> Int[Tensor, " segment_tokens"]:
    """The row of each of the segment's tokens when item i's first kept token goes to row ``begin[i]``."""
    own = _starts(segment.lengths)
    shift = (begin - own - int(left_out)).repeat_interleave(segment.lengths)
    rows = torch.arange(len(segment.tokens), device=begin.device) + shift
    if left_out:
        rows[own] = -1
    return rows


def _interleave(
    segments: Sequence[Segment],
    lengths: Int[Tensor, " items"],
    rows: tuple[Int[Tensor, " _"], ...],
    cls_rows: Int[Tensor, " items"],
) -> _Sequences:
    tokens = torch.cat([segment.tokens[r >= 0] for segment, r in zip(segments, rows, strict=True)])
    order = torch.cat([r[r >= 0] for r in rows])  # tokens are grouped by segment; order says where each belongs
    inverse = order.argsort()
    counts = tuple(int((r >= 0).sum()) for r in rows)
    routes = Routes(tuple(segment.skill for segment in segments), counts, order, inverse)
    return _Sequences(tokens[inverse], lengths, routes, cls_rows, rows)
