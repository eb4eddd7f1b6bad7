"""Finds items that are nearly copies of earlier ones, among any number, by MinHash (Broder 1997).

What an item consists of is a sequence of tokens; two items are as alike as the share of their runs of three tokens
that both have (Jaccard). A signature of 64 minima estimates that share, and items that agree in any four minima in a
row are compared: of those that are 0.9 alike, all but one in a million are.
"""

from __future__ import annotations

import base64
import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64, UInt16, UInt64

from skillnet_cli.files import disk_errors
from skillnet_cli.prepare.items import equal_keys
from skillnet_cli.prepare.preparer import Item, Items

RUN = 3
MINIMA = 64
ROWS = 4
"""Minima that two items must share in a row to be compared: 8 bytes."""

AT_ONCE = 1 << 16

_WORD = np.random.SeedSequence(20110).generate_state(2 * MINIMA, np.uint64)
_FACTORS, _ADDENDS = _WORD[:MINIMA] | np.uint64(1), _WORD[MINIMA:]
_POWERS = np.array([1, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)


def signature(tokens: Sequence[str]) -> str:
    """The minima of a sequence of tokens in 172 characters, short enough for an item's facts."""
    return base64.b64encode(minima(tokens).tobytes()).decode()


def minima(tokens: Sequence[str]) -> UInt16[np.ndarray, " minima"]:
    """The lowest of each hash function's values over all runs; a sequence shorter than a run is one run."""
    hashes = np.fromiter(map(_hash, tokens), np.uint64, len(tokens))
    padded = np.concatenate([hashes, np.zeros(max(0, RUN - len(hashes)), np.uint64)])
    runs = np.zeros(len(padded) - RUN + 1, np.uint64)
    for place, power in enumerate(_POWERS):
        runs += padded[place : place + len(runs)] * power
    values = (runs ^ (runs >> np.uint64(29)))[:, None] * _FACTORS + _ADDENDS
    return (values.min(axis=0) >> np.uint64(32)).astype("<u2")


def reject_near_duplicates(
    items: Items, folder: Path, alike: float, reason: str, signature_of: Callable[[Item], str | None]
) -> None:
    """Leave out every item that is at least ``alike`` to an earlier one; memory holds a few of them at a time.

    Args:
        items: those to compare.
        folder: for the signatures, which are deleted in the end.
        alike: the share of runs that two items have in common, as the signatures estimate it.
        reason: for the ledger, followed by the earlier item's id.
        signature_of: gives an item's :func:`signature`; None where it is not to be compared.
    """
    table = folder / "signatures"
    places = _write(items, table, signature_of)
    if len(places):
        signatures = np.memmap(table, "<u2", "r", shape=(len(places), MINIMA))
        found = np.full(len(places), -1, np.int64)
        for band in range(MINIMA // ROWS):
            for copies, firsts in _candidates(signatures, band, folder):
                near = _agreement(signatures, copies, firsts) >= alike
                fresh = near & (found[copies] < 0)
                found[copies[fresh]] = firsts[fresh]
        for copy in np.flatnonzero(found >= 0).tolist():
            items.reject(int(places[copy]), "duplicate", f"{reason} '{items.id_of(int(places[found[copy]]))}'")
        del signatures
    table.unlink()


def reject_equal(items: Items, folder: Path, reason: str, key_of: Callable[[Item], str | None]) -> None:
    """Leave out every item whose key, 32 hexadecimal digits, an earlier one has; None is equal to nothing."""
    table = folder / "equals"
    places = _write(items, table, lambda item: _base64(key_of(item)))
    if len(places):
        keys = np.fromfile(table, "<u8").reshape(-1, 2).astype(np.uint64)
        for copies, firsts in equal_keys([keys], np.ones(len(keys), bool), folder):
            for copy, first in zip(places[copies].tolist(), places[firsts].tolist(), strict=True):
                items.reject(copy, "duplicate", f"{reason} '{items.id_of(first)}'")
    table.unlink()


def _base64(key: str | None) -> str | None:
    return None if key is None else base64.b64encode(bytes.fromhex(key)).decode()


def _write(items: Items, table: Path, signature_of: Callable[[Item], str | None]) -> Int64[np.ndarray, " signed"]:
    places = []
    with disk_errors(table), open(table, "wb") as file:
        for item in items:
            found = signature_of(item)
            if found is not None:
                places.append(item.place)
                file.write(base64.b64decode(found))
    return np.array(places, np.int64)


def _candidates(
    signatures: UInt16[np.ndarray, "signed 64"], band: int, folder: Path
) -> Iterator[tuple[Int64[np.ndarray, " _"], Int64[np.ndarray, " _"]]]:
    return equal_keys(_keys(signatures, band), np.ones(len(signatures), bool), folder)


def _keys(signatures: UInt16[np.ndarray, "signed 64"], band: int) -> Iterator[UInt64[np.ndarray, "_ 2"]]:
    for start in range(0, len(signatures), AT_ONCE):
        block = np.ascontiguousarray(signatures[start : start + AT_ONCE, band * ROWS : (band + 1) * ROWS])
        values = block.view("<u8").ravel()
        yield np.stack([values * _POWERS[1], values | np.uint64(1)], axis=1).astype(np.uint64)


def _agreement(
    signatures: UInt16[np.ndarray, "signed 64"], copies: Int64[np.ndarray, " some"], firsts: Int64[np.ndarray, " some"]
) -> Float[np.ndarray, " some"]:
    found = np.empty(len(copies))
    for start in range(0, len(copies), AT_ONCE):
        cut = slice(start, start + AT_ONCE)
        found[cut] = (signatures[copies[cut]] == signatures[firsts[cut]]).mean(axis=1)
    return found


@functools.lru_cache(maxsize=1 << 16)
def _hash(token: str) -> int:
    content = token.encode("utf-8", errors="surrogatepass")
    return (zlib.crc32(content) | zlib.crc32(content, 0x5BD1E995) << 32) * 0x9E3779B97F4A7C15 % (1 << 64)
