"""Cuts a stream of samples into windows short enough for the model, at quiet points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from skillnet_sound.decode import Block

SEARCHED = 0.25
"""The part of a window, at its end, in which the quietest point is looked for: 5 of 20 seconds."""

QUIET_SECONDS = 0.1
"""Loudness is the energy of this long a stretch; a cut falls in its middle."""


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
