"""Cuts a stream of samples into windows short enough for the model, at quiet points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from skillnet_sound.decode import Block
from skillnet_sound.level import STRETCH_SECONDS, loud, stretch

SEARCHED = 0.25
"""The part of a window, at its end, in which the quietest point is looked for: 5 of 20 seconds."""

QUIET_SECONDS = 0.1
"""Loudness is the energy of this long a stretch; a cut falls in its middle."""

PAUSE_SECONDS = 1.0
"""Silence of this length is apart from what is spoken before and after it; shorter pauses are part of speech."""

MARGIN_SECONDS = 0.2
"""Of such a silence, left to the sounds beside it: words begin and end quietly."""


def windows(parts: Iterable[Block], longest: int, shortest: int, rate: int) -> Iterator[Block]:
    """Cut ``parts`` into windows of at most ``longest`` and at least ``shortest`` samples that cover all of them.

    Only a recording shorter than ``shortest`` yields a shorter one. Holds no more than a window and a part, and the
    cuts do not depend on how the stream comes in parts.

    Args:
        parts: the samples, in parts of any length.
        longest: in samples.
        shortest: in samples.
        rate: samples per second.
    """
    held = np.zeros(0, dtype=np.float32)
    for part in parts:
        held = np.concatenate([held, part])
        while len(held) >= longest + shortest:
            window, held = _split(held, longest, rate)
            yield window
    if len(held) > longest:
        # Fewer than a shortest window are over the limit: cut early enough to leave one.
        window, held = _split(held, len(held) - shortest, rate)
        yield window
    if len(held):
        yield held


def apart(samples: Block, shortest: int, rate: int) -> Iterator[tuple[Block, bool]]:
    """The pieces of a window in order, and whether each is silent: long silences are pieces of their own.

    A model that hears them with the words beside them hears those too quietly, and may make words of them.

    Args:
        samples: of a window, as they are decoded.
        shortest: in samples; no piece with sound is shorter, if the window is not.
        rate: samples per second.
    """
    heard, width = loud(samples, rate), stretch(rate)
    margin = max(shortest, round(MARGIN_SECONDS * rate))
    begin = 0
    for before, after in pairwise([-1, *np.flatnonzero(heard).tolist(), len(heard)]):
        if (after - before - 1) * STRETCH_SECONDS < PAUSE_SECONDS:
            continue
        start = 0 if before < 0 else (before + 1) * width + margin
        end = len(samples) if after == len(heard) else after * width - margin
        if start >= end:
            continue
        if begin < start:
            yield samples[begin:start], False
        yield samples[start:end], True
        begin = end
    if begin < len(samples):
        yield samples[begin:], not heard.any()


def _split(samples: Block, limit: int, rate: int) -> tuple[Block, Block]:
    cut = quietest(samples[:limit], int(limit * (1 - SEARCHED)), int(QUIET_SECONDS * rate))
    return samples[:cut], samples[cut:]


def quietest(samples: Block, start: int, width: int) -> int:
    """The middle of the quietest stretch, and of the last one where several are equal.

    Args:
        samples: what is to be cut.
        start: the first sample that may be part of the stretch.
        width: samples of the stretch.
    """
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples[start:], dtype=np.float64))])
    width = min(width, len(samples) - start)
    loudness = energy[width:] - energy[:-width]
    last = len(loudness) - 1 - int(np.argmin(loudness[::-1]))
    return start + last + width // 2
