"""``--set dotted.key=value``: one key of a recipe changed from the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skillnet_cli.api import UserError
from skillnet_cli.recipe.toml import TOMLError, parse_toml


@dataclass(frozen=True)
class Override:
    """A key, its new value, and how the user wrote the two."""

    path: tuple[str, ...]
    value: Any
    text: str


def parse_override(text: str) -> Override:
    """Read ``key=value``; a value that is no TOML is taken as the string it looks like.

    Raises:
        UserError: there is no key, no value, or a bracket or quotation mark that does not close.
    """
    key, equals, value = text.partition("=")
    path = _key_path(key)
    if not equals or not value.strip() or path is None:
        raise UserError(f"--set {text}: write it as key=value, for example --set finetune.steps=200")
    return Override(path, _value(value.strip(), text), text)


def apply_override(document: dict[str, Any], override: Override) -> None:
    """Set the key, making the tables on the way. Raises UserError where one of them is a value already."""
    table = document
    for depth, part in enumerate(override.path[:-1], 1):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {override.text}: {'.'.join(override.path[:depth])} is a value, not a table")
    table[override.path[-1]] = override.value


def _key_path(key: str) -> tuple[str, ...] | None:
    """A dotted key, quoted parts included, as the TOML parser reads it."""
    try:
        table: Any = parse_toml(f"{key} = 0")
    except TOMLError:
        return None
    path: tuple[str, ...] = ()
    while isinstance(table, dict):
        if len(table) != 1:
            return None
        part, table = next(iter(table.items()))
        path += (part,)
    return path


def _value(value: str, text: str) -> Any:
    try:
        document = parse_toml(f"value = {value}")
    except TOMLError as error:
        if value[0] in "[{\"'":
            raise UserError(f"--set {text}: not a TOML value: {error}") from error
        return value
    return document["value"] if len(document) == 1 else value
