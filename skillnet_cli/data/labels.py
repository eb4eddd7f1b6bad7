"""What a label asks of its item, for those who prepare sets and for the loss: without torch, which takes seconds."""

from __future__ import annotations

from itertools import pairwise


def frames_needed(transcript: str) -> int:
    """The fewest frames by which CTC can spell a transcript: one a character, and a blank between equal neighbours."""
    return len(transcript) + sum(one == other for one, other in pairwise(transcript))
