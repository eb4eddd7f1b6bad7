"""``code-pretrain``: pairs of functions and descriptions to pretrain on, none of which ``pytorrent`` has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from skillnet_cli.api import UserError
from skillnet_cli.data.prepared import PreparedSet, data_roots, find_set
from skillnet_cli.files import write_whole
from skillnet_cli.prepare.preparer import Items, PoolSplit, Summary, divide
from skillnet_code.datasets.pair import ALL, Pair
from skillnet_code.datasets.pairs import Pairs, content_of, shortened

SIZES = {"train": 800_000, "dev": 8_000}
"""The paper's 800,000 pairs, and some of our own choice to watch the loss by."""

USUAL = "pytorrent"
NOBODY = "none"
KNOWN = "known.bin"


class CodePretrain(Pairs):
    """Like ``pytorrent``, without the pairs of a prepared set."""

    pools: Mapping[str, tuple[str, ...]] = {ALL: tuple(SIZES)}

    def setup(self) -> None:
        """Store the keys of the codes of the set that this one must not overlap."""
        other = self._other()
        codes = _codes(other) if other else iter(())
        keys = np.unique(np.fromiter((_key_of(content_of(code)) for code in codes), np.uint64))
        write_whole(self.folder / KNOWN, keys.astype("<u8").tobytes())

    def refuses(self, pair: Pair, content: str) -> str | None:
        """The other set has it."""
        place = int(np.searchsorted(self._known, np.uint64(_key_of(content))))
        there = place < len(self._known) and int(self._known[place]) == _key_of(content)
        return "the other set has this code" if there else None

    def pool(self, split: str, protocol: str | None) -> str:
        """The partitions are mixed."""
        return ALL

    def split(self, pool: str, size: int, protocol: str | None) -> PoolSplit | None:
        """The paper's number for train, or that proportion."""
        return PoolSplit(divide(size, SIZES))

    def finish(self, items: Items, protocol: str | None) -> Summary:
        """How many codes the other set has, and how many descriptions were cut, in the manifest."""
        return Summary(choices={"codes of the other set": len(self._known), **shortened(items)})

    @cached_property
    def _known(self) -> UInt64[np.ndarray, " codes"]:
        return np.frombuffer((self.folder / KNOWN).read_bytes(), "<u8").astype(np.uint64)

    def _other(self) -> Path | None:
        """The set that was named, else ``pytorrent`` where there is one."""
        named = self.job.options.get("disjoint-from")
        if named == NOBODY:
            return None
        roots = [self.job.beside or self.job.out.parent, *data_roots()]
        if named:
            return Path(named) if Path(named).is_dir() else find_set(named, roots)
        try:
            return find_set(USUAL, roots)
        except UserError as error:
            raise UserError(
                f"code-pretrain must share nothing with {USUAL}, which is not prepared yet: prepare it first, "
                f"name another set with --disjoint-from, or allow overlap with --disjoint-from {NOBODY}"
            ) from error


def _key_of(content: str) -> int:
    """Eight bytes that stand for a code."""
    raw = content.encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")


def _codes(folder: Path) -> Iterator[str]:
    """The codes of all splits of a set. Raises UserError where it has none."""
    prepared = PreparedSet.open(folder)
    for name in prepared.manifest.splits:
        split = prepared.split(name)
        if "code" not in split.facts.fields:
            raise UserError(f"--disjoint-from: the set in {folder} has no field 'code'")
        yield from (sample["code"] for sample in split)
