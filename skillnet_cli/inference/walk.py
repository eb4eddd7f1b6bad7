"""The files that are named, and those in the folders that are named; what is left out, and why."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from skillnet_cli.files import sha256_of
from skillnet_cli.plugins import Registry
from skillnet_cli.untrusted import printable

HIDDEN = "hidden"
BROKEN = "broken links"
OTHER = "pipes, sockets or devices"
UNREADABLE = "that cannot be looked into"
NO_SUFFIX = "without a suffix"


@dataclass
class Found:
    """Files in order, none twice, and what was left out.

    Attributes:
        files: what a modality claims.
        folders: the folders that were looked into, by their real paths.
        left_out: a suffix that no modality claims, or another reason -> the paths that were left out for it.
        named: those of ``left_out`` that were named by themselves.
    """

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    named: set[Path] = field(default_factory=set)

    def counts(self) -> dict[str, int]:
        """How many were left out, by suffix or reason."""
        return {reason: len(paths) for reason, paths in self.left_out.items()}

    def remarks(self) -> Iterator[str]:
        """A line for each kind of what was left out."""
        unclaimed = {}
        for reason, paths in self.left_out.items():
            named = [path for path in paths if path in self.named]
            shown = named if len(named) <= _SHOWN else []
            for path in shown:
                yield f"{path}: left out: {_why(reason)}"
            if rest := len(paths) - len(shown):
                unclaimed[reason] = rest
        others = [f"{unclaimed.pop(reason)} {reason}" for reason in _NOT_SUFFIXES if reason in unclaimed]
        if unclaimed:
            most = sorted(unclaimed, key=lambda suffix: -unclaimed[suffix])[:_SUFFIXES]
            listed = [f"{unclaimed.pop(suffix)} {suffix}" for suffix in most]
            listed += [f"{sum(unclaimed.values())} others"] if unclaimed else []
            yield f"left out: {', '.join(listed)}: no modality reads them"
        if others:
            yield f"left out: {', '.join(others)}"


_NOT_SUFFIXES = (HIDDEN, BROKEN, OTHER, UNREADABLE)
_SHOWN = 5
"""Files left out that are told one by one, of each kind, where they were named."""
_SUFFIXES = 12
"""Suffixes that a line has, the commonest ones."""


def _why(reason: str) -> str:
    if reason == NO_SUFFIX:
        return "a modality is recognised by the file's suffix, and it has none"
    whys = {HIDDEN: "it is hidden", BROKEN: "it is a broken link", OTHER: "it is a pipe, a socket or a device"}
    whys[UNREADABLE] = "it cannot be looked into"
    return whys.get(reason, f"no modality reads files ending in '{reason}'")


def find_files(paths: Iterable[Path], registry: Registry) -> Found:
    """The files among ``paths`` and in the folders among them, in the order of names.

    Folders that are linked are entered as well, each folder once. A file that is there by several paths, spellings or
    links is found once (:func:`name_of`). Hidden files and folders are left out where they are not named themselves.

    Args:
        paths: they exist.
        registry: whose modalities claim files.
    """
    found = Found()
    entered: set[tuple[int, int]] = set()
    names: set[str] = set()
    for path in dict.fromkeys(paths):
        for each, reason in _below(path, entered, found.folders):
            if reason is None and registry.modality_of_suffix(each.suffix) is None:
                reason = each.suffix.lower() or NO_SUFFIX
            if reason is not None:
                found.left_out[reason].append(each)
                found.named.update({each} & {path})
            elif (name := name_of(each)) not in names:
                names.add(name)
                found.files.append(each)
    found.left_out = dict(found.left_out)
    return found


def _below(top: Path, entered: set[tuple[int, int]], folders: list[Path]) -> Iterator[tuple[Path, str | None]]:
    """The file, or all that a folder holds, each with the reason for which it is left out, if there is one."""
    waiting = [top]  # not recursive: folders may lie deeper in one another than Python's frames
    while waiting:
        path = waiting.pop()
        if path.name.startswith(".") and path is not top:
            yield path, HIDDEN
            continue
        try:
            facts = path.stat()
            if not stat.S_ISDIR(facts.st_mode):
                yield path, None if stat.S_ISREG(facts.st_mode) else OTHER
            elif (facts.st_dev, facts.st_ino) not in entered:
                entered.add((facts.st_dev, facts.st_ino))
                waiting += sorted(path.iterdir(), reverse=True)
                folders.append(Path(os.path.realpath(path)))
        except OSError:
            yield path, BROKEN if path.is_symlink() else UNREADABLE


def name_of(path: Path) -> str:
    """The name that a file has in a collection: one for all paths to it, that can be printed and is not another file's.

    It is the real path, composed as Unicode recommends (NFC), unless another file has that name. Bytes that are not
    UTF-8 are written as a shell reads them: ``$'/pictures/\\xba\\xec.jpg'``.
    """
    real = os.path.realpath(path)
    if not real.isascii():
        composed = unicodedata.normalize("NFC", real)
        if composed != real and not _is_another(composed, real):
            real = composed
    plain = real.isprintable() if real.isascii() else printable(real) == real and "\n" not in real
    return real if plain else _quoted(real)


def path_of(name: str) -> Path:
    """The path that :func:`name_of` gave a name to."""
    if not name.startswith("$'"):
        return Path(name)
    return Path(os.fsdecode(name[2:-1].encode("utf-8").decode("unicode_escape").encode("latin-1")))


def _is_another(composed: str, real: str) -> bool:
    """Whether both exist, and are not the same."""
    try:
        return not Path(composed).samefile(real) and sha256_of(Path(composed)) != sha256_of(Path(real))
    except OSError:
        return False


def _quoted(real: str) -> str:
    """A path as bash's ``$'…'``, with an escape for every byte that is not a printable one of ASCII."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}" for byte in os.fsencode(real)
    )
    return f"$'{escaped}'"
