"""A seeded shuffle of any number of items that is computed place by place and kept nowhere.

A Feistel network permutes the numbers below a power of two; walking on from those that are too large leaves a
permutation of the items (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
"""

from __future__ import annotations

import functools

import numpy as np

ROUNDS = 8
_WORD = (1 << 64) - 1


def shuffled(place: int, size: int, key: tuple[int, ...]) -> int:
    """The item at a place of the permutation of ``range(size)`` that ``key`` seeds."""
    bits = max(2, (size - 1).bit_length())
    item = place
    while True:
        item = _feistel(item, bits, _round_keys(key))
        if item < size:
            return item


def _feistel(value: int, bits: int, keys: tuple[int, ...]) -> int:
    """Permute the numbers of so many bits; the two parts swap places, and widths, in every round."""
    low = bits - bits // 2
    high = bits // 2
    left, right = value >> low, value & ((1 << low) - 1)
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & ((1 << high) - 1))
        low, high = high, low
    return (left << low) | right


def _mix(value: int) -> int:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _WORD
    return value ^ (value >> 31)


@functools.lru_cache(maxsize=256)
def _round_keys(key: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int, np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)))
