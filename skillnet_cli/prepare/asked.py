"""What was asked for when a set was made, as its manifest has it, and how that differs from what is asked for now.

Nothing in it says where on a machine something lay: a file is its name and its sha256, a folder its name and the names
and sizes of its files. So equal requests are equal to the byte, however their paths were written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skillnet_cli.api import UserError
from skillnet_cli.data.format import MANIFEST, Manifest
from skillnet_cli.files import sha256_of
from skillnet_cli.sources.folders import files_below

AGAIN = "add --again to make it anew (the old one stays until the new one is whole), or name another folder with --out"
"""What to do about a set that is not the one that is asked for."""


def is_local(source: str) -> bool:
    """Whether a source is a path, and not something to be fetched."""
    return source.partition(":")[0].lower() not in ("pypi", "http", "https")


def name_of(path: Path | str) -> str:
    """What a file or a folder is called, however its path is written."""
    return Path(os.path.normpath(Path(path).expanduser().absolute())).name


def portable(value: Any) -> Any:
    """An option's value as JSON can hold it, with the names of files and folders for their paths."""
    if isinstance(value, (tuple, list)):
        return [portable(each) for each in value]
    if isinstance(value, Path):
        return name_of(value)
    if isinstance(value, str) and os.sep in value:  # such as NAME=FOLDER
        head, sign, tail = value.rpartition("=")
        return f"{head}{sign}{name_of(tail)}" if Path(tail).expanduser().exists() else value
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def source_names(sources: Iterable[str]) -> list[str]:
    """The sources as a manifest names them: files and folders by their names, addresses as they are."""
    return [name_of(each) if is_local(each) else each for each in sources]


def fingerprint(path: Path, suffixes: Sequence[str] | None = None) -> dict[str, Any]:
    """What a file or a folder is recognised by on any machine.

    Args:
        path: of the file or folder.
        suffixes: of the files in a folder that count; all of them without it.

    Raises:
        UserError: it cannot be read.
    """
    try:
        if not path.is_dir():
            return {"name": name_of(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        listed = [(name, each.stat().st_size) for name, each in _counted(path, suffixes)]
    except OSError as error:
        raise UserError(f"source '{path}': {error.strerror}") from error
    facts = {"name": name_of(path), "files": len(listed), "bytes": sum(size for _, size in listed)}
    digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    return {**facts, **({} if suffixes is None else {"suffixes": sorted(suffixes)}), "sha256": digest}


def _counted(folder: Path, suffixes: Sequence[str] | None) -> Iterator[tuple[str, Path]]:
    found = files_below(folder, lambda name, reason: None)
    return ((name, path) for name, path in found if suffixes is None or path.suffix.lower() in suffixes)


def differences(there: Manifest, asked: Mapping[str, Any], paths: Sequence[Path], folder: Path) -> list[str]:
    """How a set that is there differs from what is asked for now, a few words each.

    Args:
        there: its manifest.
        asked: what is asked for, as :attr:`Manifest.asked` has it, but for its files.
        paths: the files and folders that are named now: the sources, then those of options.
        folder: the set's.
    """
    if not there.asked:  # made before manifests had it
        return list(_differing({"limit": there.choices.get("limit")}, {"limit": asked.get("limit")}))
    before = {name: value for name, value in there.asked.items() if name != "files"}
    return list(_differing(before, asked)) or list(_changed(there.asked.get("files", ()), paths, folder))


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differing(old, new)
        elif old != new:
            yield f"{name} {_short(old)}, now {_short(new)}"


def _changed(before: Sequence[Mapping[str, Any]], paths: Sequence[Path], folder: Path) -> Iterator[str]:
    """Which of the files and folders that a set was made of are no longer as they were."""
    made, remaining = (folder / MANIFEST).stat().st_mtime_ns, list(before)
    for path in paths:
        old = next((each for each in remaining if each.get("name") == name_of(path)), None)
        if old is None:
            continue
        remaining.remove(old)
        suffixes = old.get("suffixes")
        if path.is_dir():
            newer = [name for name, each in _counted(path, suffixes) if _is_newer(each, made)]
            if newer or fingerprint(path, suffixes) != old:
                yield f"'{path}' has changed since" + (f" ('{newer[0]}' is newer)" if newer else "")
        elif path.stat().st_size != old.get("bytes") or (_is_newer(path, made) and fingerprint(path) != old):
            yield f"'{path}' has changed since"


def _is_newer(path: Path, made: int) -> bool:
    found = path.stat()
    return max(found.st_mtime_ns, found.st_ctime_ns) > made


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) < 2:
        value = value[0] if value else None
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"


def check_same(out: Path, asked: Mapping[str, Any], paths: Sequence[Path]) -> None:
    """Make sure that the set in a folder is the one that is asked for.

    Args:
        out: the set's folder.
        asked: what is asked for, see :func:`differences`.
        paths: the files and folders that are named.

    Raises:
        UserError: it is another one, or damaged; the message says how it differs.
    """
    found = differences(Manifest.read(out), asked, paths, out)
    if found:
        raise UserError(f"{out} holds a set made otherwise ({'; '.join(found[:3])}): {AGAIN}")
