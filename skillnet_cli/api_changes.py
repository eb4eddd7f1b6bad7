"""What a plugin written for an earlier API version must change: found in its files as text, nothing of it imported."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from skillnet_cli.api import API_VERSION

MOVED = {
    "skillnet_cli.data.archives": "skillnet_cli.sources.archives",
    "skillnet_cli.data.download": "skillnet_cli.sources.download",
    "skillnet_cli.data.entries": "skillnet_cli.sources.tables",
    "skillnet_cli.data.fetch": "skillnet_cli.sources.fetch",
    "skillnet_cli.data.fetch_options": "skillnet_cli.api",
    "skillnet_cli.data.files": "skillnet_cli.files",
    "skillnet_cli.data.ledger": "skillnet_cli.data.format",
    "skillnet_cli.data.linked": "skillnet_cli.prepare.linked",
    "skillnet_cli.data.manifest": "skillnet_cli.data.format",
    "skillnet_cli.data.near_copies": "skillnet_cli.prepare.duplicates",
    "skillnet_cli.data.prepare": "skillnet_cli.prepare.preparer",
    "skillnet_cli.data.preparer": "skillnet_cli.prepare.preparer",
    "skillnet_cli.data.records": "skillnet_cli.sources.tables",
    "skillnet_cli.data.rows": "skillnet_cli.sources.tables",
    "skillnet_cli.data.shards": "skillnet_cli.data.format",
    "skillnet_cli.data.target_space": "skillnet_cli.api",
    "skillnet_cli.data.texts": "skillnet_cli.sources.texts",
    "skillnet_cli.data.tolerance": "skillnet_cli.prepare.preparer",
    "skillnet_cli.data.translation": "skillnet_cli.prepare.translation",
    "skillnet_cli.data.trees": "skillnet_cli.sources.archives",
    "skillnet_cli.data.web": "skillnet_cli.sources.web",
    "skillnet_cli.data.writer": "skillnet_cli.prepare.writer",
    "skillnet_cli.hookspecs": "skillnet_cli.plugins.Hooks",
    "skillnet_cli.model.initial": "skillnet_cli.model.init",
    "skillnet_cli.model.weights": "skillnet_cli.model.checkpoint",
}
"""Modules of version 1 that a plugin could use, and where their contents are in version 2."""

RENAMED = {
    "api.Donor": "api.SourceCheckpoint",
    "api.Fill": "api.MappedWeight",
    "SourceCheckpoint.fills=": "SourceCheckpoint.weight_map=",
    "archives.BROKEN": "members.READ_ERRORS",
    "archives.members": "archives.read_archive",
    "trees.Leaf": "members.Member",
    "trees.Tree": "archives.FileTree",
    "web.Unavailable": "http.Unavailable",
    "near_copies.reject_near_copies": "duplicates.reject_near_duplicates",
    "preparer.Deal": "preparer.PoolSplit",
    "preparer.Ending": "preparer.Summary",
    "preparer.Verdict": "Kept | Rejected",
    "Objective.stand_ins()": "Objective.dummy_targets()",
    "Preparer.begin()": "Preparer.setup()",
    "Preparer.deal()": "Preparer.split()",
    "Preparer.judge()": "Preparer.filter()",
    "Preparer.specified()": "Preparer.configure()",
}
"""Names of version 1 and 2, after their module or class; a method ends in ``()``, an argument in ``=``."""


_VERSION = re.compile(r"API_VERSION\s*(?::[^=]*)?=\s*(\d+)")


def stated_version(package: str) -> int | None:
    """The ``API_VERSION`` that an installed package states last, or None where it states none."""
    stated = [int(found.group(1)) for _, _, line in _lines(package) if (found := _VERSION.match(line))]
    return stated[-1] if stated else None


def changes_needed(package: str) -> list[str]:
    """Every line of an installed package that uses a name of version 1, as ``FILE:LINE: OLD → NEW``."""
    changes = []
    for file, number, line in _lines(package):
        pairs = [(old, new) for pattern, old, new in _patterns() if pattern.search(line)]
        if found := _VERSION.match(line):
            pairs.append((found.group(), str(API_VERSION)))
        changes += [f"{file}:{number}: {old} → {new}" for old, new in pairs]
    return changes


def _lines(package: str) -> Iterator[tuple[str, int, str]]:
    """(file, number from 1, text) of every line of a package's or a single module's sources."""
    spec = find_spec(package)  # of a top-level name: nothing is imported
    if spec is None or spec.origin is None:
        return
    origin = Path(spec.origin)
    root, paths = origin.parent, [origin]
    if spec.submodule_search_locations:
        root, paths = origin.parent.parent, sorted(origin.parent.rglob("*.py"))
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            yield str(path.relative_to(root)), number, line


@cache
def _patterns() -> list[tuple[re.Pattern[str], str, str]]:
    """What finds each old name in a line."""
    found = []
    for old, new in MOVED.items():
        room, _, module = old.rpartition(".")
        # "from room import a, module" names the module too; a longer name that begins alike is another module
        pattern = rf"\b{re.escape(old)}\b(?!_)|\bfrom {re.escape(room)} import (?:.*\W)?{module}\b"
        found.append((re.compile(pattern), old, new))
    for old, new in RENAMED.items():
        name = old.rpartition(".")[2]
        if name.endswith("()"):  # where a class defines the method, or calls the one of its base class
            pattern = rf"(?:\bdef |\bsuper\(\)\.){name[:-2]}\("
        elif name.endswith("="):
            pattern = rf"\b{name[:-1]}=(?!=)"
        else:  # a function's name may be that of a variable elsewhere, so only its import counts
            pattern = rf"\bimport\b.*\b{name}\b" if name.islower() else rf"\b{name}\b"
        found.append((re.compile(pattern), old, new))
    return found
