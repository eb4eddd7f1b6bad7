"""What records and packages yield: a function with what it does."""

from __future__ import annotations

from dataclasses import dataclass

ALL = "all"
"""The pool of pairs that no partition is known of."""


@dataclass(frozen=True)
class Pair:
    """A function's code without its docstring, the words of the docstring, where it is from and under which licence."""

    split: str
    id: str
    code: str
    text: str
    origin: str
    licence: str
