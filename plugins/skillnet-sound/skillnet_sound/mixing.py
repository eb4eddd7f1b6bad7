"""Several channels to one."""

from __future__ import annotations

from typing import Any

import numpy as np

Samples = np.ndarray[Any, np.dtype[np.float32]]

QUIET = 1e-3
"""A channel with less than this share of the loudest one's energy (30 dB below) is silent: it is not mixed in."""

OPPOSED = -0.5
"""A channel that is correlated with the loudest one by less than this has the opposite polarity: it is turned."""


class Mixer:
    """Mixes a recording to mono, block by block: the mean of the channels that are heard, with one polarity.

    A plain mean makes one voice among eight channels eight times as quiet, and two channels of opposite polarity cancel
    each other. Which channels are silent, and which are turned, is decided by energy and correlation, both without the
    channel's own mean, of all that was heard of the recording so far.
    """

    def __init__(self) -> None:
        self._products: Any = None  # (channels, channels), summed over all blocks

    def mix(self, block: Samples) -> Samples:
        """Samples (channels, samples) to (samples,)."""
        if len(block) == 1:
            return block[0]
        return self._weights(block) @ block

    def _weights(self, block: Samples) -> Samples:
        centred = block - block.mean(axis=1, keepdims=True, dtype=np.float64)
        products = centred @ centred.T
        if self._products is None or len(self._products) != len(block):  # a joined recording may have other channels
            self._products = products
        else:
            self._products = self._products + products
        energy = self._products.diagonal()
        loudest = int(energy.argmax())
        heard = energy >= QUIET * energy[loudest]
        opposed = self._products[loudest] < OPPOSED * np.sqrt(energy * energy[loudest])
        signs = np.where(opposed, -1.0, 1.0)
        return (signs * heard / heard.sum()).astype(np.float32)
