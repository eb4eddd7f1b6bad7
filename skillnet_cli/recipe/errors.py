"""Validation errors as lines that a person can act on: the key, what is wrong with it, and what was probably meant."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from skillnet_cli.plugins import suggest
from skillnet_cli.recipe.toml import KeyPath
from skillnet_cli.untrusted import describe


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with a recipe: the key, and the message about it."""

    path: KeyPath
    text: str


SchemaT = TypeVar("SchemaT", bound=BaseModel)


def parse_table(schema: type[SchemaT], values: Mapping[str, Any]) -> SchemaT:
    """A table of keys that a plugin has a schema for, in which true is no number and text is none either.

    It is read as JSON is, in which an array may be a tuple and a string a path, whatever the schema says of being
    strict. Raises ValidationError where it is wrong.
    """
    return schema.model_validate_json(json.dumps(values, default=str), strict=True)


def check_table(schema: type[BaseModel], values: Mapping[str, Any], prefix: KeyPath = ()) -> list[Mistake]:
    """Everything that is wrong with a table of a plugin's keys; arguments are those of :func:`check_section`."""
    return _mistakes(lambda: parse_table(schema, values), schema, values, prefix)


def check_section(schema: type[BaseModel], values: Mapping[str, Any], prefix: KeyPath = ()) -> list[Mistake]:
    """Everything that is wrong with a table.

    Args:
        schema: The keys of the table and their ranges.
        values: The table, as parsed.
        prefix: The key at which the table stands in the document.
    """
    return _mistakes(lambda: schema.model_validate(values), schema, values, prefix)


def _mistakes(
    parse: Callable[[], object], schema: type[BaseModel], values: Mapping[str, Any], prefix: KeyPath
) -> list[Mistake]:
    try:
        parse()
    except ValidationError as error:
        return [
            Mistake((*prefix, *_as_written(details["loc"], values)), _text(details, schema))
            for details in error.errors(include_url=False)
        ]
    return []


def _as_written(path: KeyPath, values: Any) -> KeyPath:
    """The path of a key in the document: pydantic's has the ``kind`` in it as well, where a table may be of several."""
    kept: list[str | int] = []
    for number, part in enumerate(path, 1):
        is_kind = isinstance(values, Mapping) and part not in values and number < len(path)
        if not is_kind:
            kept.append(part)
            values = values.get(part) if isinstance(values, Mapping) else values[part] if _has(values, part) else None
    return tuple(kept)


def _has(values: Any, place: str | int) -> bool:
    return isinstance(values, (list, tuple)) and isinstance(place, int) and place < len(values)


_FORMER_KEYS: dict[KeyPath, str] = {
    ("patience",): "is called max_skipped_updates now",
    ("finetune", "init"): "is called start_from now",
    ("optimizer", "name"): "does not exist any more, the optimizer is always AdamW: leave it out",
}
"""Keys of earlier versions, by the end of their path, and the message about each."""


def _text(details: ErrorDetails, schema: type[BaseModel]) -> str:
    path, given = details["loc"], details["input"]
    if details["type"] == "extra_forbidden":
        for former, text in _FORMER_KEYS.items():
            if path[-len(former) :] == former:
                return f"this key {text}"
        return f"unknown key{suggest(str(path[-1]), _keys_at(schema, path[:-1]))}"
    if details["type"].startswith("union_tag"):
        return _about_kind(details)
    text = describe(details)
    if details["type"] == "literal_error" and isinstance(given, str):
        text += suggest(given, details["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
    return text


def _about_kind(details: ErrorDetails) -> str:
    """A table whose ``kind`` is missing or unknown."""
    key = details["ctx"]["discriminator"].strip("'")
    if details["type"] == "union_tag_not_found":
        return f"{key} is missing"
    known = details["ctx"]["expected_tags"].replace("'", "").split(", ")
    given = details["ctx"]["tag"]
    return f"{key} must be {' or '.join(map(repr, known))}, not '{given}'{suggest(given, known)}"


def _keys_at(schema: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys of the table at ``path``, found by walking down the schema's annotations."""
    annotation: Any = schema
    for part in path:
        annotation = _inside(annotation, part)
    section = _section(annotation)
    return [field.alias or name for name, field in section.model_fields.items()] if section else []


def _inside(annotation: Any, part: str | int) -> Any:
    kinds = [each for each in _members(annotation) if part in _kinds(each)]
    if kinds:
        return kinds[0]
    section = _section(annotation)
    if section is not None:
        field = section.model_fields.get(str(part))
        return field.annotation if field else None
    inner = get_args(annotation)
    return inner[-1] if inner else None


def _section(annotation: Any) -> type[BaseModel] | None:
    """The schema of the table that an annotation stands for, optional or not."""
    if _members(annotation):
        return next(filter(None, map(_section, _members(annotation))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, ``Annotated`` ones unwrapped; nothing where the annotation is not a union."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) not in (Union, UnionType):
        return ()
    return tuple(inner for each in get_args(annotation) for inner in (_members(each) or (each,)))


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The values of ``kind`` that distinguish tables of this schema from others."""
    section = _section(annotation)
    field = section.model_fields.get("kind") if section else None
    return get_args(field.annotation) if field else ()
