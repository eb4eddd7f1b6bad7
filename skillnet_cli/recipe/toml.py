"""TOML in and out: the standard parser, and the little writer that it lacks."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]

TOMLError = tomllib.TOMLDecodeError
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML text. Raises TOMLError where it is none."""
    return tomllib.loads(text)


def dump_toml(document: Mapping[str, Any]) -> str:
    """Write a document of tables, arrays and scalars as TOML; a key whose value is None is left out."""
    return "\n".join(_table(document, ())).strip() + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = ["", f"[{'.'.join(map(_key, path))}]"] if path else []
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    lines += [
        f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None and key not in inner
    ]
    for key, value in inner.items():
        lines += _table(value, (*path, key))
    return lines


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (int, float)):
        return repr(value)
    raise TypeError(f"TOML has no value such as {value!r}")


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
