"""Finds equal and nearly equal items among any number of them, with memory for a few bytes of each.

Equal ones have the same key of 16 bytes: keys are sorted on the disk. Near duplicates are found by MinHash (Broder
1997): what an item consists of is a sequence of tokens, and the similarity of two items is the share of their runs of
three tokens that both have (Jaccard). A signature of 64 minima estimates that share, and items that agree in any four
minima in a row are compared: of pairs with a similarity of 0.9, all but one in a million are.
"""

from __future__ import annotations

import base64
import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Int64, UInt16, UInt64

from skillnet_cli.files import disk_errors
from skillnet_cli.prepare.preparer import Item, Items

KEYS_AT_ONCE = 1 << 21
"""Keys that are sorted at a time: 16 bytes each, and 8 for the item's place."""

_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("place", "<i8")])


def equal_keys(
    keys: Iterable[UInt64[np.ndarray, "_ 2"]],
    alive: Bool[np.ndarray, " all"],
    folder: Path,
    at_once: int = KEYS_AT_ONCE,
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
        yield _repeated(np.concatenate([np.empty(0, _RECORD), *_records(keys, alive)]))
        return
    paths = [folder / f"keys-{number:04d}" for number in range(buckets)]
    for path in paths:
        path.unlink(missing_ok=True)  # left by a run that was killed
    for block in _records(keys, alive):
        chosen = block["high"] % np.uint64(buckets)
        for number in np.unique(chosen):
            with disk_errors(paths[number]), paths[number].open("ab") as file:
                block[chosen == number].tofile(file)
    for path in paths:
        if path.exists():
            yield _repeated(np.fromfile(path, _RECORD))
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


def _repeated(records: np.ndarray) -> tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]:
    # By key, then by place: so the first of each run of equal keys is the earliest item that has it.
    order = np.lexsort((records["place"], records["low"], records["high"]))
    records = records[order]
    first_of_run = np.ones(len(records), bool)
    first_of_run[1:] = (records["high"][1:] != records["high"][:-1]) | (records["low"][1:] != records["low"][:-1])
    firsts = records["place"][np.maximum.accumulate(np.where(first_of_run, np.arange(len(records)), 0))]
    return records["place"][~first_of_run], firsts[~first_of_run]


def reject_equal(items: Items, folder: Path, reason: str, key_of: Callable[[Item], str | None]) -> None:
    """Leave out every item whose key an earlier one has.

    Args:
        items: those to compare.
        folder: for the keys, which are deleted in the end.
        reason: for the ledger, followed by the earlier item's id.
        key_of: gives an item's key, 32 hexadecimal digits; None is equal to nothing.
    """
    table = folder / "equals"
    places = _write(items, table, lambda item: None if (key := key_of(item)) is None else bytes.fromhex(key))
    if len(places):
        keys = np.fromfile(table, "<u8").reshape(-1, 2).astype(np.uint64)
        for repeated, firsts in equal_keys([keys], np.ones(len(keys), bool), folder):
            for place, first in zip(places[repeated].tolist(), places[firsts].tolist(), strict=True):
                items.reject(place, "duplicate", f"{reason} '{items.id_of(first)}'")
    table.unlink()


RUN = 3
"""Tokens of a run."""
MINIMA = 64
"""Hash functions, and minima of a signature."""
ROWS = 4
"""Minima that two items must share in a row to be compared: 8 bytes."""

_ITEMS_AT_ONCE = 1 << 16
"""Signatures that are read at a time: 8 MiB."""

# Multiply-add hashing modulo 2**64; the factors must be odd. The seed is arbitrary and must stay: another one would
# give other signatures, and sets other bytes.
_WORDS = np.random.SeedSequence(20110).generate_state(2 * MINIMA, np.uint64)
_FACTORS, _ADDENDS = _WORDS[:MINIMA] | np.uint64(1), _WORDS[MINIMA:]
_POWERS = np.array([1, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)


def signature(tokens: Sequence[str]) -> str:
    """The minima of a sequence of tokens in 172 characters (base64), short enough for an item's facts."""
    return base64.b64encode(_minima(tokens).tobytes()).decode()


def _minima(tokens: Sequence[str]) -> UInt16[np.ndarray, " minima"]:
    """The lowest of each hash function's values over all runs; a sequence shorter than a run is one run."""
    hashes = np.fromiter(map(_hash, tokens), np.uint64, len(tokens))
    padded = np.concatenate([hashes, np.zeros(max(0, RUN - len(hashes)), np.uint64)])
    runs = np.zeros(len(padded) - RUN + 1, np.uint64)
    for place, power in enumerate(_POWERS):
        runs += padded[place : place + len(runs)] * power
    values = (runs ^ (runs >> np.uint64(29)))[:, None] * _FACTORS + _ADDENDS
    # Bits 32 to 47: the low bits of a multiply-add hash are weak.
    return (values.min(axis=0) >> np.uint64(32)).astype("<u2")


@functools.lru_cache(maxsize=1 << 16)
def _hash(token: str) -> int:
    content = token.encode("utf-8", errors="surrogatepass")
    return (zlib.crc32(content) | zlib.crc32(content, 0x5BD1E995) << 32) * 0x9E3779B97F4A7C15 % (1 << 64)


def reject_near_duplicates(
    items: Items, folder: Path, similarity: float, reason: str, signature_of: Callable[[Item], str | None]
) -> None:
    """Leave out every item that is nearly equal to an earlier one.

    Args:
        items: those to compare.
        folder: for the signatures, which are deleted in the end.
        similarity: the share of runs that near duplicates have in common at least, as the signatures estimate it.
        reason: for the ledger, followed by the earlier item's id.
        signature_of: gives an item's :func:`signature`; None where it is not to be compared.
    """
    table = folder / "signatures"
    places = _write(
        items, table, lambda item: None if (found := signature_of(item)) is None else base64.b64decode(found)
    )
    if len(places):
        signatures = np.memmap(table, "<u2", "r", shape=(len(places), MINIMA))
        earlier = np.full(len(places), -1, np.int64)
        for band in range(MINIMA // ROWS):
            for candidates, firsts in equal_keys(_band_keys(signatures, band), np.ones(len(places), bool), folder):
                near = _agreement(signatures, candidates, firsts) >= similarity
                found = near & (earlier[candidates] < 0)
                earlier[candidates[found]] = firsts[found]
        for row in np.flatnonzero(earlier >= 0).tolist():
            items.reject(int(places[row]), "duplicate", f"{reason} '{items.id_of(int(places[earlier[row]]))}'")
        del signatures  # the file is mapped until then, which some systems do not let us delete
    table.unlink()


def _write(items: Items, table: Path, content_of: Callable[[Item], bytes | None]) -> Int64[np.ndarray, " written"]:
    """Write a row of a table for every item that has one; returns their places."""
    places = []
    with disk_errors(table), table.open("wb") as file:
        for item in items:
            content = content_of(item)
            if content is not None:
                places.append(item.place)
                file.write(content)
    return np.array(places, np.int64)


def _band_keys(signatures: UInt16[np.ndarray, "signed 64"], band: int) -> Iterator[UInt64[np.ndarray, "_ 2"]]:
    for start in range(0, len(signatures), _ITEMS_AT_ONCE):
        block = np.ascontiguousarray(signatures[start : start + _ITEMS_AT_ONCE, band * ROWS : (band + 1) * ROWS])
        values = block.view("<u8").ravel()
        # The product spreads the items over the buckets; the lowest bit is set because a key of zeros equals none.
        yield np.stack([values * _POWERS[1], values | np.uint64(1)], axis=1).astype(np.uint64)


def _agreement(
    signatures: UInt16[np.ndarray, "signed 64"], some: Int64[np.ndarray, " pairs"], others: Int64[np.ndarray, " pairs"]
) -> Float[np.ndarray, " pairs"]:
    """The share of minima that the two of each pair have in common."""
    found = np.empty(len(some))
    for start in range(0, len(some), _ITEMS_AT_ONCE):
        cut = slice(start, start + _ITEMS_AT_ONCE)
        found[cut] = (signatures[some[cut]] == signatures[others[cut]]).mean(axis=1)
    return found
