"""Finds equal keys among any number of items, with memory for a share of them at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt64

from skillnet_cli.data.files import disk

AT_ONCE = 1 << 21
"""Keys that are sorted at a time: 16 bytes each and a place."""

_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("place", "<i8")])


def equal_keys(
    keys: Iterable[UInt64[np.ndarray, "_ 2"]], alive: Bool[np.ndarray, " all"], folder: Path, at_once: int = AT_ONCE
) -> Iterator[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]]:
    """The places of items whose key an earlier one has, and the places of the earliest that have it.

    Args:
        keys: the keys of all items in order, in blocks; a key of zeros is equal to none.
        alive: which items take part.
        folder: for the keys, sorted into files by their first bits.
        at_once: keys held in memory at a time, roughly.
    """
    buckets = max(1, 1 << max(0, int(alive.sum()) // at_once).bit_length())
    if buckets == 1:
        yield _copies(np.concatenate([np.empty(0, _RECORD), *_records(keys, alive)]))
        return
    paths = [folder / f"keys-{number:04d}" for number in range(buckets)]
    for path in paths:
        path.unlink(missing_ok=True)
    for block in _records(keys, alive):
        chosen = block["high"] % np.uint64(buckets)
        for number in np.unique(chosen):
            with disk(paths[number]), open(paths[number], "ab") as file:
                block[chosen == number].tofile(file)
    for path in paths:
        if path.exists():
            yield _copies(np.fromfile(path, _RECORD))
            path.unlink()


def _records(keys: Iterable[UInt64[np.ndarray, "_ 2"]], alive: Bool[np.ndarray, " all"]) -> Iterator[np.ndarray]:
    start = 0
    for block in keys:
        wanted = alive[start : start + len(block)] & block.any(axis=1)
        records = np.empty(int(wanted.sum()), _RECORD)
        records["high"], records["low"] = block[wanted, 0], block[wanted, 1]
        records["place"] = start + np.flatnonzero(wanted)
        start += len(block)
        yield records


def _copies(records: np.ndarray) -> tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]:
    order = np.lexsort((records["place"], records["low"], records["high"]))
    records = records[order]
    fresh = np.ones(len(records), bool)
    fresh[1:] = (records["high"][1:] != records["high"][:-1]) | (records["low"][1:] != records["low"][:-1])
    first = records["place"][np.maximum.accumulate(np.where(fresh, np.arange(len(records)), 0))]
    return records["place"][~fresh], first[~fresh]
