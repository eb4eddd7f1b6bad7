"""Pairs from the files of Python packages: wheels and source archives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.prepare.preparer import Range, Rejected
from skillnet_cli.sources.archives import FileTree, read_archive
from skillnet_cli.sources.members import Member
from skillnet_code.datasets.functions import LARGEST
from skillnet_code.datasets.harvest import Example, filter_file
from skillnet_code.datasets.pair import ALL, Pair

UNKNOWN = "unknown"

_SDIST = re.compile(r"(?P<name>.+)-(?P<version>\d[^-]*)\.(?:tar\.gz|tgz|tar\.bz2|tar\.xz|zip)", re.IGNORECASE)
_WHEEL = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-[^-]+){3,4}\.whl", re.IGNORECASE)
_METADATA = re.compile(r"(?:[^/]+\.dist-info/METADATA|[^/]+/PKG-INFO)")
_CLASSIFIER = re.compile(r"License ::(?: OSI Approved ::)? ?(.+)")


def is_package(name: str) -> bool:
    """Whether a file is a wheel or a source archive, by its name: NAME-VERSION and the usual endings."""
    return bool(_WHEEL.fullmatch(name) or _SDIST.fullmatch(name))


def package_ranges(files: FileTree, paths: Sequence[Path]) -> list[Range]:
    """A range for each package: sources that are one, and those in the folders."""
    named = [Range(path.name, ["package", place]) for place, path in enumerate(paths) if is_package(path.name)]
    lying = [leaf.name for leaf in files.members if is_package(leaf.name.rpartition("/")[2])]
    return [*named, *(Range(name, ["package", name]) for name in lying)]


def read_package(files: FileTree, paths: Sequence[Path], payload: Any) -> Iterator[Pair | Rejected]:
    """The pair of every function that passes the rules for one function, or why it does not.

    An archive that breaks off is a row; what came before is sound.

    Args:
        files: the sources that are not single packages.
        paths: all sources.
        payload: the place of the package among ``paths``, or its path in ``files``.
    """
    name = paths[payload].name if isinstance(payload, int) else str(payload)
    refused: list[tuple[str, str]] = []

    def opened() -> Iterator[Member]:
        if isinstance(payload, int):
            return read_archive(paths[payload], refuse=lambda *each: refused.append(each))
        return files.read_archive(files[payload])

    try:
        licence = _licence_of(opened())
        refused.clear()
        yield from _pairs(opened(), name, licence)
    except (UserError, DamagedItem) as error:
        yield Rejected(ALL, name, "damaged", str(error))
    for path, reason in refused:
        yield Rejected(ALL, f"{name}/{path}", "damaged", reason)


def _pairs(found: Iterable[Member], name: str, licence: str) -> Iterator[Pair | Rejected]:
    origin = _origin_of(name)
    for member in found:
        if not member.name.endswith(".py"):
            continue
        path = f"{name}/{member.name}"
        if member.size > LARGEST:
            yield Rejected(ALL, path, "filtered", f"a Python file of more than {LARGEST} bytes")
            continue
        yield from _of_file(member, path, origin, licence)


def _of_file(member: Member, path: str, origin: str, licence: str) -> Iterator[Pair | Rejected]:
    try:
        content = member.read()
    except DamagedItem as error:
        yield Rejected(ALL, path, "damaged", str(error))
        return
    for each in filter_file(path, content, None):
        if isinstance(each, Example):
            where = f"{origin}:{each.id.removeprefix(path.removesuffix(member.name))}"
            yield Pair(ALL, each.id, each.code, each.text, where, licence)
        else:
            yield replace(each, split=ALL)


def _origin_of(name: str) -> str:
    """``NAME==VERSION`` of a package's file."""
    file = name.rpartition("/")[2]
    found = _WHEEL.fullmatch(file) or _SDIST.fullmatch(file)
    return f"{found['name']}=={found['version']}" if found else file


def _licence_of(found: Iterable[Member]) -> str:
    """What a package's metadata say: the expression, else the line ``License`` where it is short, else classifiers."""
    for member in found:
        if _METADATA.fullmatch(member.name):
            return _licence(member.read().decode("utf-8", errors="replace"))
    return UNKNOWN


def _licence(metadata: str) -> str:
    headers = HeaderParser().parsestr(metadata)
    expression, line = headers.get("License-Expression"), str(headers.get("License") or "").strip()
    if expression:
        return str(expression).strip()
    if line and line.upper() != "UNKNOWN" and len(line) <= 60 and "\n" not in line:
        return line
    classified = filter(None, map(_CLASSIFIER.fullmatch, headers.get_all("Classifier") or []))
    return ", ".join(match[1] for match in classified) or UNKNOWN
