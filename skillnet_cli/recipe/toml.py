"""Parsing TOML, and finding the line of each key, which the standard parser does not report."""

from __future__ import annotations

import re
import sys
from typing import Any, TypeAlias

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]

from skillnet_cli.untrusted import MAX_DEPTH, is_within

TOMLError = tomllib.TOMLDecodeError
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML text. Raises TOMLError where it is not valid, or nested deeper than any recipe is."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except RecursionError as error:
        raise TOMLError("nested too deep") from error
    if not is_within(document, MAX_DEPTH):
        raise TOMLError("nested too deep")
    return document


KeyPath: TypeAlias = "tuple[str | int, ...]"
"""A dotted key as its parts; elements of an array are numbered from 0."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2}(?!"))'
    r"|'''.*?'''(?:'{0,2}(?!'))"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]*")


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every key, table header and array element of a valid TOML text."""
    return _Scanner(text).scan()


class _Scanner:
    """Walks through a text that the parser has accepted, so nothing here checks the syntax again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.lines: dict[KeyPath, int] = {}
        self.tables: dict[KeyPath, int] = {}  # number of elements of each array of tables so far

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip(_BLANK) < len(self.text):
            if self._next("["):
                table = self._header()
            else:
                self._pair(table)
        return self.lines

    def _header(self) -> KeyPath:
        is_array = self._next("[[")
        self.position += 2 if is_array else 1
        line = self._line()
        path = self._elements(self._key(), is_array)
        self._note(path, line)
        self.position = self.text.index("]", self.position) + (2 if is_array else 1)
        return path

    def _elements(self, key: tuple[str, ...], is_array: bool) -> KeyPath:
        """The key with the index of the current element after each array of tables in it."""
        path: KeyPath = ()
        for depth, part in enumerate(key, 1):
            path += (part,)
            if is_array and depth == len(key):
                self.tables[path] = self.tables.get(path, 0) + 1
            if path in self.tables:
                path += (self.tables[path] - 1,)
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = (*table, *self._key())
        self._note(path, line)
        self.position += 1  # the equals sign, where _key stopped
        self._value(path)

    def _key(self) -> tuple[str, ...]:
        """A dotted key; stops at the character after it."""
        parts = [self._key_part()]
        while self._next("."):
            self.position += 1
            parts.append(self._key_part())
        return tuple(parts)

    def _key_part(self) -> str:
        self._skip(_SPACE)
        quoted = _STRING.match(self.text, self.position)
        found = quoted or _BARE_KEY.match(self.text, self.position)
        if found is None:
            raise ValueError(f"no key on line {self._line()}")
        self.position = found.end()
        self._skip(_SPACE)
        return _unquote(found.group()) if quoted else found.group()

    def _value(self, path: KeyPath) -> None:
        self._skip(_BLANK)
        if self._next("{"):
            self._members(path, "}")
        elif self._next("["):
            self._members(path, "]")
        else:
            self._skip(_STRING if _STRING.match(self.text, self.position) else _SCALAR)

    def _members(self, path: KeyPath, end: str) -> None:
        """The contents of an inline table or an array, up to its closing bracket."""
        self.position += 1
        index = 0
        while self._skip(_BLANK) < len(self.text) and not self._next(end):
            if self._next(","):
                self.position += 1
            elif end == "}":
                self._pair(path)
            else:
                self._note((*path, index), self._line())
                self._value((*path, index))
                index += 1
        self.position += 1

    def _note(self, path: KeyPath, line: int) -> None:
        """Remember the line on which a key, and every table on the way to it, is first named."""
        for depth in range(1, len(path) + 1):
            self.lines.setdefault(path[:depth], line)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self.text, self.position)
        self.position = found.end() if found else self.position
        return self.position

    def _next(self, token: str) -> bool:
        return self.text.startswith(token, self.position)

    def _line(self) -> int:
        return self.text.count("\n", 0, self.position) + 1


def _unquote(literal: str) -> str:
    """The text of a quoted key."""
    return str(parse_toml(f"key = {literal}")["key"])
