"""Reads prepared sets: by name, by split, by index."""

from __future__ import annotations

import bisect
import functools
import hashlib
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.format import (
    MANIFEST,
    Manifest,
    ShardFacts,
    SplitFacts,
    decode_sample,
    inside,
    read_checks,
    read_offsets,
    sample_id,
)
from skillnet_cli.files import read_at
from skillnet_cli.plugins import suggest
from skillnet_cli.untrusted import Untrusted, open_regular

DEFAULT_SPLIT = "test"
"""The split that verbs which measure or embed a set take where none is named."""

DEV_SPLITS = ("dev", "validation", "valid", "val")
"""Names that publishers give to the split on which progress is measured, whatever their case."""


def is_dev(split: str) -> bool:
    """Whether a split of that name is the one on which progress is measured."""
    return split.casefold() in DEV_SPLITS


def usual_splits(names: Iterable[str]) -> list[str]:
    """Those of some splits that figures are usually of: the test split first, then that of progress."""
    wanted = (DEFAULT_SPLIT, *DEV_SPLITS)
    there = [name for name in names if name.casefold() in wanted]
    return sorted(there, key=lambda name: wanted.index(name.casefold()))


CHECKSUM_DIGITS = 16
"""Of a split's checksum: 64 bits tell a person's sets apart, and fit into a line."""

OPEN_SHARDS = 128
"""Shards that a process holds open at a time."""


class PreparedSet:
    """A whole prepared set on disk.

    ``name`` is that of its folder, as recipes and ``--split`` have it. ``manifest.name`` is its preparer's, which
    several folders may share.
    """

    def __init__(self, path: Path, manifest: Manifest, name: str | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self.name = name or _whole(path).name

    @classmethod
    def open(cls, path: Path | str, roots: Iterable[Path] = ()) -> PreparedSet:
        """Open the set in a folder.

        Args:
            path: the folder.
            roots: where sets are looked for: below one of them, the set's name is its path from there.

        Raises:
            UserError: there is none, or it is unfinished or damaged.
        """
        return cls(Path(path), Manifest.read(Path(path)), _name_below(Path(path), roots))

    def split(self, name: str) -> Split:
        """One of its splits. Raises UserError naming the splits there are."""
        facts = self.manifest.splits.get(name)
        if facts is None:
            there = ", ".join(self.manifest.splits)
            raise UserError(f"set '{self.name}' has no split '{name}': it has {there}")
        _check_sizes(self.path, name, facts)
        return Split(self.name, name, self.path, facts, self.manifest.fields)

    def splits_with(self, fields: Iterable[str]) -> list[str]:
        """The splits of which every item has all of some fields."""
        wanted = set(fields)
        return [name for name, facts in self.manifest.splits.items() if wanted <= set(facts.fields)]


def _name_below(folder: Path, roots: Iterable[Path]) -> str | None:
    """A folder's path from the first of the roots that it lies in; None where it lies in none."""
    whole = _whole(folder)
    below = next((root for root in map(_whole, roots) if root in whole.parents), None)
    return whole.relative_to(below).as_posix() if below else None


def _whole(path: Path) -> Path:
    """The whole path, without dots; links in it keep their names, which ``Path.resolve`` would not let them."""
    return Path(os.path.normpath(path.absolute()))


if TYPE_CHECKING:
    _Samples = Sequence[dict[str, Any]]
else:
    _Samples = Sequence  # what checks types while a program runs would read a sample at every check of the other


class Split(_Samples):
    """The samples of one split, by index. Holds no open file itself: cheap to copy, safe to fork and to share."""

    def __init__(
        self, set_name: str, name: str, folder: Path, facts: SplitFacts, kinds: Mapping[str, str] | None = None
    ) -> None:
        self.set_name = set_name
        self.name = name
        self.facts = facts
        self._kinds = dict(kinds or {})
        self._folder = folder
        self._ends = list(accumulate(shard.items for shard in facts.shards))

    def __len__(self) -> int:
        return self.facts.items

    @property
    def checksum(self) -> str:
        """A checksum of the items: equal in splits that hold the same, whatever their sets are called."""
        shards = "".join(shard.sha256 for shard in self.facts.shards)
        return hashlib.sha256(shards.encode()).hexdigest()[:CHECKSUM_DIGITS]

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """A sample: its id, its fields, its media as bytes.

        Raises:
            FailedJob: the shard is missing or was altered.
        """
        if isinstance(index, slice):
            return [self._sample(place) for place in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"index {index} in a split of {len(self)} items")
        return self._sample(place)

    def find(self, id: str) -> int | None:
        """The place of the item with that id, None where there is none; no media are read.

        Raises:
            FailedJob: a shard is missing or was altered.
        """
        for place in range(len(self)):
            shard, within = self._locate(place)
            if _open_shard(self._folder, shard).id_at(within) == id:
                return place
        return None

    def _locate(self, place: int) -> tuple[ShardFacts, int]:
        """The shard that has a sample, and the sample's place in it."""
        number = bisect.bisect_right(self._ends, place)
        shard = self.facts.shards[number]
        first = self._ends[number] - shard.items
        return shard, place - first

    def _sample(self, place: int) -> dict[str, Any]:
        shard, place = self._locate(place)
        sample = _open_shard(self._folder, shard).read(place)
        for field in self.facts.fields:
            if field not in sample:
                raise _altered(self._folder / shard.file, f"sample {place} has no field '{field}'")
        for field, value in sample.items():
            if not _fits(value, self._kinds.get(field, "")):
                raise _altered(self._folder / shard.file, f"sample {place}: '{field}' is of another kind")
        return sample


def _fits(value: Any, kind: str) -> bool:
    """Whether a value is what the manifest says of its field; it says nothing of the id."""
    if kind.startswith("bytes"):
        return isinstance(value, bytes)
    if kind == "text":
        return isinstance(value, str)
    if kind == "texts":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if kind == "numbers":
        return isinstance(value, list) and all(isinstance(each, (int, float)) for each in value)
    return not isinstance(value, bytes)


def _check_sizes(folder: Path, name: str, facts: SplitFacts) -> None:
    """Make sure that a split holds no more than its shards have room for, before memory is spent on its items.

    Raises:
        FailedJob: its numbers cannot be true, or a shard has another size.
    """
    room = 0
    for shard in facts.shards:
        path = folder / shard.file
        try:
            size = path.stat().st_size
        except OSError:  # said when it is read
            size = 0
        if size and size != shard.bytes:
            raise _altered(path, f"it has {size} bytes instead of {shard.bytes}")
        room += size // _SMALLEST_SAMPLE
    if sum(shard.items for shard in facts.shards) != facts.items or (facts.items > room and facts.items > _FEW):
        raise _altered(folder / MANIFEST, f"its split '{name}' cannot have {facts.items} items")


_SMALLEST_SAMPLE = 1024
"""Bytes of a sample: a tar's header and a block of its record."""
_FEW = 100_000
"""Items for which there is memory whatever the shards hold: one of them may be missing."""
_ENOUGH = 16 << 10
"""Bytes of a sample in which its id usually stands: more are read where it does not."""


class _Shard:
    """An open tar and the two tables beside it. Reading leaves no trace: one positioned read a sample."""

    def __init__(self, folder: Path, facts: ShardFacts) -> None:
        path = folder / facts.file
        self._path = path
        self._offsets = read_offsets(path, facts)
        self._checks = read_checks(path, facts)
        self._handle = -1
        self._handle = _open_of_size(path, facts.bytes)

    def read(self, place: int) -> dict[str, Any]:
        start, end = int(self._offsets[place]), int(self._offsets[place + 1])
        region = read_at(self._handle, end - start, start)
        if zlib.crc32(region) != self._checks[place]:
            raise _altered(self._path, f"sample {place} has another checksum")
        try:
            return decode_sample(region)
        except ValueError as error:
            raise _altered(self._path, f"sample {place}: {error}") from error

    def id_at(self, place: int) -> str:
        """The id of a sample, which its first member has; media behind it are not read."""
        start, end = int(self._offsets[place]), int(self._offsets[place + 1])
        length = _ENOUGH
        while True:
            head = read_at(self._handle, min(end - start, length), start)
            found = sample_id(head)
            if found is not None:
                return found
            if length >= end - start:
                raise _altered(self._path, f"sample {place} has no id")
            length *= 16

    def __del__(self) -> None:
        if getattr(self, "_handle", -1) >= 0:
            os.close(self._handle)


# A shard that falls out of the cache is closed when its last reader lets go of it, so threads may share the cache.
@functools.lru_cache(maxsize=OPEN_SHARDS)
def _open_shard(folder: Path, facts: ShardFacts) -> _Shard:
    return _Shard(folder, facts)


def _open_of_size(path: Path, size: int) -> int:
    try:
        with open_regular(inside(path)) as file:
            handle = os.dup(file.fileno())
    except OSError as error:
        raise FailedJob(f"{path}: {error.strerror}: see 'skillnet data verify', and prepare the set again") from error
    except Untrusted as error:
        raise _altered(path, str(error)) from error
    found = os.fstat(handle).st_size
    if found != size:
        os.close(handle)
        raise _altered(path, f"it has {found} bytes instead of {size}")
    return handle


def _altered(path: Path, what: str) -> FailedJob:
    return FailedJob(f"{path}: altered or damaged ({what}): see 'skillnet data verify', and prepare the set again")


def find_set(name: str, roots: Iterable[Path] | None = None) -> Path:
    """The folder of the prepared set called ``name``: the first of the roots that has it.

    Args:
        name: a folder below a root, or the path of a set.
        roots: where to look; without it :func:`data_roots`.

    Raises:
        UserError: there is none, or it is unfinished; near names are pointed out.
    """
    looked_in = list(data_roots() if roots is None else roots)
    places = [root / name for root in looked_in] + ([Path(name)] if os.sep in name else [])
    there = [place for place in places if place.is_dir()]
    for place in there:
        if (place / MANIFEST).is_file():
            return place
    if there:
        Manifest.read(there[0])
    raise UserError(_unknown_set(name, looked_in))


def locate_set(named: str, roots: Iterable[Path] | None = None) -> Path:
    """The folder of a set that is named by its folder or, below the roots, by its name. Raises UserError."""
    return Path(named) if Path(named).is_dir() else find_set(named, roots)


def find_split(named: str, roots: Iterable[Path] | None = None) -> tuple[PreparedSet, str | None]:
    """The set that ``SET[:SPLIT]`` names, opened, and the name of the split; None where it names the whole set.

    Args:
        named: SET is a set's folder, or its name below one of the roots; both may have colons in them.
        roots: where to look; without it :func:`data_roots`.

    Raises:
        UserError: there is no such set, or it is unfinished or damaged. Whether it has the split is not looked at.
    """

    def folder(name: str) -> Path:
        # A folder of the same name that is no set, such as one of raw files, must not hide the set.
        return Path(name) if (Path(name) / MANIFEST).is_file() else find_set(name, roots)

    below = list(data_roots() if roots is None else roots)
    name, colon, split = named.rpartition(":")
    try:
        return PreparedSet.open(folder(named), below), None
    except UserError:
        if not colon:
            raise
    return PreparedSet.open(folder(name), below), split


def find_item(named: str, roots: Iterable[Path] | None = None) -> tuple[PreparedSet, str, int] | None:
    """The set, split and place of the item that ``SET:SPLIT#ID`` names, as hits of a search do; None for other names.

    Raises:
        UserError: the set has no such split, or no item of that id.
        FailedJob: a shard is missing or was altered.
    """
    below = list(data_roots() if roots is None else roots)
    for place in (at for at, character in enumerate(named) if character == "#"):  # ids and names may have some too
        try:
            prepared, part = find_split(named[:place], below)
        except UserError:
            continue
        if part is not None:
            found = prepared.split(part).find(named[place + 1 :])
            if found is None:
                raise UserError(f"{prepared.name}:{part} has no item '{named[place + 1 :]}'")
            return prepared, part, found
    return None


def data_roots(given: Sequence[Path] = ()) -> list[Path]:
    """Where sets are looked for: the folders given, those in SKILLNET_DATA, ``./data``."""
    named = [Path(part).expanduser() for part in os.environ.get("SKILLNET_DATA", "").split(os.pathsep) if part]
    return [*given, *named, Path("data")]


def _unknown_set(name: str, roots: Sequence[Path]) -> str:
    names = sorted({path.parent.name for root in roots for path in root.glob(f"*/{MANIFEST}")})
    found = f"found {', '.join(names)}" if names else "found none"
    hint = suggest(name, names, f"{found}; make it with 'skillnet prepare'")
    return f"no prepared set '{name}' in {', '.join(map(str, roots)) or 'no folder'}{hint}"
