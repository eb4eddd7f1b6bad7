"""Pairs from lines of JSON in the layout of CodeSearchNet, which PyTorrent shares: one function a line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.data.format import is_name, usual_split
from skillnet_cli.prepare.preparer import Range, Rejected
from skillnet_cli.sources.archives import FileTree
from skillnet_cli.sources.members import Member
from skillnet_cli.sources.texts import Line, byte_ranges, lines_between, read_lines
from skillnet_code.datasets.describe import description, first_paragraph
from skillnet_code.datasets.functions import functions
from skillnet_code.datasets.pair import ALL, Pair

PATTERNS = ("*.jsonl", "*.jsonl.gz", "*.jsonl.zst", "*.jsonl.xz", "*.jsonl.bz2")
PARTITIONS = {"test": "test", "valid": "dev", "train": "train"}
"""A published partition -> its split here."""

SHORTEST_SAID = 8
"""Characters up to which a description that the code holds too may be there by chance."""

STEP = 64 << 20
"""Bytes of a range of a file that is not compressed."""

_QUOTED = (r'"{3}(?:[^\\]|\\.)*?"{3}', r"'{3}(?:[^\\]|\\.)*?'{3}", r'"(?:[^"\\\n]|\\.)*"', r"'(?:[^'\\\n]|\\.)*'")
_STRING = f"[rRuUbBfF]{{0,2}}(?:{'|'.join(_QUOTED)})"
_DEFINITION = re.compile(r"^[ \t]*(?:async[ \t]+)?def\b", re.MULTILINE)
_IN_HEAD = re.compile(rf"{_STRING}|#[^\n]*|[()\[\]{{}}:]", re.DOTALL)
_FIRST_STRING = re.compile(
    rf"(?P<before>(?:[ \t]*(?:#[^\n]*)?\\?\n)*)[ \t]*\(?{_STRING}(?:\s*\\?\s*{_STRING})*\)?[ \t]*"
    r"(?:;[ \t]*|(?:#[^\n]*)?(?:\n|\Z))",
    re.DOTALL,
)
"""The docstring behind a definition's colon: strings beside each other are one."""


def record_ranges(files: FileTree) -> list[Range]:
    """The files of records, test and valid first; a large one that is not compressed in pieces.

    Raises:
        UserError: two sources have a file of the same path.
    """
    leaves = files.named(*PATTERNS)
    names = [leaf.name for leaf in leaves]
    for name in names:
        if files[name] is not leaves[names.index(name)] or names.count(name) > 1:
            raise UserError(f"two sources have a file '{name}': name the folder that contains both with --source")
    order = [*PARTITIONS.values(), ALL]
    leaves.sort(key=lambda leaf: order.index(partition_of(leaf.name)))
    return [each for leaf in leaves for each in _of_leaf(leaf)]


def _of_leaf(leaf: Member) -> Iterator[Range]:
    split = partition_of(leaf.name)
    splits = () if split == ALL else (split,)
    if leaf.name.endswith(".jsonl") and leaf.seekable and leaf.size > STEP:
        for start, end in byte_ranges(leaf, STEP):
            yield Range(f"{leaf.name} from byte {start}", ["records", [leaf.name, start, end]], splits)
    else:
        yield Range(leaf.name, ["records", [leaf.name]], splits)


def partition_of(path: str) -> str:
    """The split that a file's path names, by a folder or the beginning or an end of its name; else :data:`ALL`."""
    for part in reversed(PurePosixPath(path.lower()).parts):
        for word in re.split(r"[^a-z]+", part):
            if word in PARTITIONS:
                return PARTITIONS[word]
    return ALL


def read_records(files: FileTree, payload: Sequence[Any]) -> Iterator[Pair | Rejected]:
    """The pair of every line, or why there is none."""
    name, *between = payload
    split = partition_of(name)
    for where, line in _lines(files[name], between):
        try:
            yield _pair(split, f"{name}{where}", line)
        except DamagedItem as error:
            yield Rejected(split, f"{name}{where}", "damaged", str(error))


def _lines(leaf: Member, between: Sequence[int]) -> Iterator[tuple[str, Line]]:
    if between:
        return ((f"@{at}", line) for at, line in lines_between(leaf, between[0], between[1]))
    return ((f":{line.number}", line) for line in read_lines(leaf))


def _pair(split: str, id: str, line: Line) -> Pair | Rejected:
    record = line.json()
    if split == ALL:
        split = _own_partition(str(record.get("partition") or ""))
    code, docstring = record.get("code"), record.get("docstring")
    if not isinstance(code, str) or not code.strip():
        raise DamagedItem("it has no code")
    if str(record.get("language", "python")).lower() != "python":
        return Rejected(split, id, "filtered", "not Python")
    if not isinstance(docstring, str) or not docstring.strip():
        return Rejected(split, id, "filtered", "no docstring")
    text = description(docstring, None) or first_paragraph(docstring)
    origin = ":".join(str(record[key]) for key in ("repo", "path", "func_name") if record.get(key))
    licence = str(record.get("licence") or record.get("license") or "unknown")
    code = without_docstring(code)
    if text in " ".join(code.split()) and len(text) > SHORTEST_SAID:
        return Rejected(split, id, "filtered", "its description stands in the code")
    return Pair(split, id, code, text, origin, licence)


def _own_partition(name: str) -> str:
    """The split that a record's partition stands for; a name of one's own is kept where a split can be called so."""
    return usual_split(name) or (name.strip() if is_name(name.strip()) else ALL)


def without_docstring(code: str) -> str:
    """A function's code, its docstring cut out where it is still there."""
    if '"' not in code and "'" not in code:
        return code
    with suppress(DamagedItem):  # of an older Python, say, or cut off
        found = next(functions("", code.encode("utf-8", errors="replace")), None)
        if found and found.docstring:
            return found.code
    return _without_first_string(code)


def _without_first_string(code: str) -> str:
    """The code of a definition without the string that its body begins with, whatever Python it is."""
    definition, depth = _DEFINITION.search(code), 0
    for mark in _IN_HEAD.finditer(code, definition.end()) if definition else ():
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(mark[0], 0)
        if mark[0] == ":" and depth <= 0:
            first = _FIRST_STRING.match(code, mark.end())
            return code[: mark.end()] + first["before"] + code[first.end() :] if first else code
    return code
