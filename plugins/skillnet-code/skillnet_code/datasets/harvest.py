"""Selects the functions of a package that are worth learning from, with their descriptions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from skillnet_cli.api import DamagedItem
from skillnet_cli.prepare.preparer import Rejected
from skillnet_code.datasets.describe import LONGEST, description
from skillnet_code.datasets.functions import Function, functions

BUCKETS = 20
"""Into how many parts the descriptions fall by their checksum; splits are made of whole parts."""

EVERY = "train"
"""The split under which the ledger counts functions that have no description to fall into one by."""

FEWEST_LETTERS = 4
"""Letters or Chinese characters below which a docstring's first paragraph describes nothing."""


@dataclass(frozen=True)
class Example:
    """A function that passed every rule, with the description that its docstring gives."""

    id: str
    code: str
    text: str

    @property
    def path(self) -> str:
        """Of the file that it stands in, which its id begins with."""
        return self.id.rsplit(":", 2)[0]

    @property
    def bucket(self) -> int:
        """The part that the description falls into, whatever the seed and wherever the function comes from."""
        return int(hashlib.sha256(essence_of_text(self.text).encode()).hexdigest(), 16) % BUCKETS


def harvest(files: Iterable[tuple[str, bytes]]) -> Iterator[Example | Rejected]:
    """Filter the functions of Python files (path, content) by these rules, in this order.

    Left out are functions of tests, those that do nothing, those without a description, those whose code repeats an
    earlier one's but for white space, comments, digits and case, and those whose description repeats an earlier one's
    but for punctuation and case.
    """
    codes: dict[str, str] = {}
    texts: dict[str, str] = {}
    for path, content in files:
        for found in filter_file(path, content):
            yield found if isinstance(found, Rejected) else _first_of_its_kind(found, codes, texts)


def essence_of_code(code: str) -> str:
    """What two nearly equal codes share: no comments, white space, digits or capitals."""
    return re.sub(r"#[^\n]*|\s|\d", "", code).casefold()


def essence_of_text(text: str) -> str:
    """What two nearly equal descriptions share: letters, digits and Chinese characters, no capitals."""
    return re.sub(r"[\W_]", "", text).casefold()


def filter_file(path: str, content: bytes, longest: int | None = LONGEST) -> Iterator[Example | Rejected]:
    """Filter the functions of one file by the rules that look at one function.

    Args:
        path: of the file, for the functions' ids.
        content: the file's bytes.
        longest: the most characters of a description; None leaves it whole.
    """
    try:
        for function in functions(path, content):
            yield _filter(path, function, longest)
    except DamagedItem as damage:
        yield Rejected(EVERY, path, "damaged", str(damage))


def _filter(path: str, function: Function, longest: int | None) -> Example | Rejected:
    if {"test", "tests", "unittests"} & set(PurePosixPath(path).parts):
        return Rejected(EVERY, function.id, "filtered", "part of a test")
    if function.stub:
        return Rejected(EVERY, function.id, "filtered", "it does nothing")
    if not function.docstring:
        return Rejected(EVERY, function.id, "filtered", "no docstring")
    text = description(function.docstring, longest)
    if len(essence_of_text(text)) < FEWEST_LETTERS:
        return Rejected(EVERY, function.id, "filtered", "the docstring has no description")
    return Example(function.id, function.code, text)


def _first_of_its_kind(example: Example, codes: dict[str, str], texts: dict[str, str]) -> Example | Rejected:
    same_code = codes.setdefault(essence_of_code(example.code), example.id)
    if same_code != example.id:
        return Rejected(EVERY, example.id, "duplicate", f"nearly the code of {same_code}")
    same_text = texts.setdefault(essence_of_text(example.text), example.id)
    if same_text != example.id:
        return Rejected(EVERY, example.id, "duplicate", f"the description of {same_text}")
    return example
