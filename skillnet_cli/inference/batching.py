"""Batches of like lengths, bounded in tokens, from a stream of items of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

TOKENS = 4_096
"""Tokens a batch. Four 20-second recordings are about 0.5 GB in the first of seven convolutions at paper scale."""

BATCHES_A_BLOCK = 32
"""Items are sorted by length within blocks of this many batches, so that a stream never lies in memory whole."""


def by_length(items: Iterable[T], length: Callable[[T], int], tokens: int = TOKENS) -> Iterator[list[T]]:
    """Cut a stream into batches of at most ``tokens`` tokens (or of one item), alike in length.

    The order of the items changes: let each carry its position.
    """
    for block in _blocks(items, length, tokens * BATCHES_A_BLOCK):
        block.sort(key=length)
        yield from _blocks(block, length, tokens)


def _blocks(items: Iterable[T], length: Callable[[T], int], tokens: int) -> Iterator[list[T]]:
    block: list[T] = []
    room = tokens
    for item in items:
        if block and length(item) > room:
            yield block
            block, room = [], tokens
        block.append(item)
        room -= length(item)
    if block:
        yield block
