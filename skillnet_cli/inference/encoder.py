"""Sources of one skill to vectors: read one by one, encoded in batches of like lengths, returned in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from skillnet_cli.api import DamagedItem, Features, Reader, Source, UserError, collect_remarks
from skillnet_cli.data.pipeline import to_device
from skillnet_cli.model.device import autocast
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.pace import advanced

T = TypeVar("T")

TOKENS = 4_096
"""Tokens a batch. Four 20-second recordings are about 0.5 GB in the first of seven convolutions at paper scale."""

BATCHES_A_BLOCK = 32
"""Items are sorted by length within blocks of this many batches, so that a stream never lies in memory whole."""


def by_length(
    items: Iterable[T], length: Callable[[T], int], tokens: int = TOKENS, size: int | None = None
) -> Iterator[list[T]]:
    """Cut a stream into batches of items of like lengths.

    Args:
        items: read as they are needed. Their order changes: let each carry its position.
        length: the tokens of an item.
        tokens: the most tokens of a batch, unless it holds one item alone.
        size: the items of a batch, if it is to have so many whatever their tokens; the last ones may have fewer.
    """
    if size is not None:
        waiting = iter(items)
        while block := list(islice(waiting, size * BATCHES_A_BLOCK)):
            block.sort(key=length)
            yield from (block[start : start + size] for start in range(0, len(block), size))
        return
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


@dataclass(frozen=True)
class Vectors:
    """The vectors of the sources that could be read, and why the others could not.

    ``kept[i]`` is the position, among the sources, of ``vectors[i]``; ``damaged`` holds (position, reason), and
    ``remarks`` (position, remark) of what was read all the same.
    """

    vectors: Float[Tensor, "kept hidden"]
    kept: tuple[int, ...]
    damaged: tuple[tuple[int, str], ...] = ()
    remarks: tuple[tuple[int, str], ...] = ()


@contextmanager
def inferring(model: SkillNet, precision: str = "auto") -> Iterator[None]:
    """Evaluation mode, no gradients, the device's precision or the given one; training mode is put back after."""
    training = model.training
    model.eval()
    try:
        # Not no_grad: inference_mode also leaves out what autograd would write down about views and versions.
        with torch.inference_mode(), autocast(precision, model.device):
            yield
    finally:
        model.train(training)


def encode_sources(
    model: SkillNet,
    readers: Mapping[str, Reader],
    skill: str,
    sources: Iterable[Source],
    task: str | None = None,
    precision: str = "auto",
    batch_size: int | None = None,
) -> Vectors:
    """The vector (:meth:`SkillNet.encode`) of every source of one skill, in the order of the sources.

    A source that cannot be read is reported in ``damaged``; the others do not depend on it.

    Args:
        model: it has the skill.
        readers: the model's, by skill.
        skill: the skill that reads the sources.
        sources: read as they are needed.
        task: whose vectors are wanted; needed where the model's tasks are separate.
        precision: what they are computed in: the device's (``"auto"``), ``"bf16"`` or ``"fp32"``.
        batch_size: the items of a batch; by default as many as have :data:`TOKENS` tokens.

    Raises:
        UserError: the model's tasks are separate, several have vectors, and none is named.
    """
    reader = readers[skill]
    damaged: dict[int, str] = {}
    remarks: dict[int, list[str]] = {}
    vectors: dict[int, Tensor] = {}
    read = read_each(reader.read, sources, damaged, remarks)
    with inferring(model, precision):
        for batch in by_length(read, lambda item: reader.length(item[1]), size=batch_size):
            features = with_copies([features for _, features in batch], reader.length)
            encoded = model.encode(skill, to_device(reader.collate(features), model.device), task)[: len(batch)]
            # On the CPU, batch by batch: the vectors of a whole set need not fit beside the model.
            vectors.update(zip((position for position, _ in batch), encoded.float().cpu(), strict=True))
            advanced()
    kept = tuple(sorted(vectors))  # batches come by length, results in the order of the sources
    rows = [vectors[position] for position in kept]
    empty = torch.empty(0, model.config.hidden)
    told = tuple((position, remark) for position, said in remarks.items() for remark in said)
    return Vectors(torch.stack(rows) if rows else empty, kept, tuple(damaged.items()), told)


LEAST_TOKENS = 32
"""BLAS libraries multiply matrices of fewer rows (16 with MKL) by other kernels, which round differently."""


def with_copies(features: list[Features], length: Callable[[Features], int]) -> list[Features]:
    """The items, and copies of the first one if it takes some to have :data:`LEAST_TOKENS` tokens.

    So an item of few tokens gives the same bits alone as among others.
    """
    missing = LEAST_TOKENS - sum(map(length, features))
    return features + features[:1] * max(0, -(-missing // max(1, length(features[0]))))


UNREADABLE = (DamagedItem, UserError, OSError)
"""What readers raise at one item: it is damaged, or is not what they read, or has gone since it was found."""


def why(error: DamagedItem | UserError | OSError) -> str:
    """The end of a line that begins with the item's name: why it could not be read."""
    return f"it cannot be read ({error.strerror or error})" if isinstance(error, OSError) else str(error)


def read_each(
    read: Callable[[Source], Features],
    sources: Iterable[Source],
    damaged: dict[int, str],
    remarks: dict[int, list[str]],
) -> Iterator[tuple[int, Features]]:
    """The features of the sources that can be read, each with its position.

    Args:
        read: reads one source.
        sources: read as they are needed.
        damaged: gets why the others could not be read, by their positions.
        remarks: gets what is to be said of those that were read all the same, by their positions.
    """
    for position, source in enumerate(sources):
        advanced()
        try:
            with collect_remarks() as said:
                features = read(source)
        except UNREADABLE as error:
            damaged[position] = why(error)
        else:
            if said:
                remarks[position] = said
            yield position, features
