"""Reads a recipe and says everything that is wrong with it at once, each mistake with its place."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillnet_cli.api import UserError
from skillnet_cli.plugins import Registry, suggest
from skillnet_cli.recipe.checks import check_plugins, needed_skills
from skillnet_cli.recipe.errors import Mistake, check_section
from skillnet_cli.recipe.schema import Recipe
from skillnet_cli.recipe.toml import KeyPath, TOMLError, key_lines, parse_toml


@dataclass(frozen=True)
class _Override:
    """A key, its new value, and how the user wrote the two."""

    path: tuple[str, ...]
    value: Any
    text: str


def parse_override(text: str) -> _Override:
    """Read ``key=value``; a value that is no TOML is taken as the string it looks like.

    Raises:
        UserError: there is no key, no value, or a bracket or quotation mark that does not close.
    """
    key, equals, value = text.partition("=")
    path = _key_path(key)
    if not equals or not value.strip() or path is None:
        raise UserError(f"--set {text}: write it as key=value, for example --set finetune.steps=200")
    return _Override(path, _value(value.strip(), text), text)


def apply_override(document: dict[str, Any], override: _Override) -> None:
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


PACKAGE = Path(__file__).parents[1]


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with this installation, by name."""
    places = [PACKAGE / "recipes", PACKAGE.parent / "recipes"]
    folder = next((place for place in places if place.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))} if folder else {}


def find_recipe(name: Path) -> Path:
    """A recipe's file: a path, or the name of one that comes with skillnet.

    Raises:
        UserError: it looks like a name, and no recipe is called so.
    """
    if name.exists() or name.suffix or len(name.parts) > 1:
        return name
    known = shipped_recipes()
    if str(name) not in known:
        hint = suggest(str(name), known, f"choose from {', '.join(known)}, or name a file that ends in .toml")
        raise UserError(f"no recipe '{name}'{hint}")
    return known[str(name)]


def purpose(path: Path) -> str:
    """What a recipe says of itself: the first sentence of the comment at its head."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines).split(". ")[0].rstrip(".")


@dataclass(frozen=True)
class Text:
    """A recipe as written: its path, its document with the overrides in place, and where each key comes from."""

    path: Path
    document: dict[str, Any]
    lines: Mapping[KeyPath, int]
    overrides: tuple[_Override, ...] = ()

    def place(self, path: KeyPath) -> str:
        """``file:line`` of a key or of the table that lacks it, or the override that set it."""
        for override in reversed(self.overrides):
            if path[: len(override.path)] == override.path:
                return f"--set {override.text}"
        return f"{self.path}:{self.line(path)}"

    def line(self, path: KeyPath) -> int:
        """The line of a key, or of the nearest table around it that is written down."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def load_recipe(path: Path, overrides: Sequence[str] = (), registry: Registry | None = None) -> Recipe:
    """Read a recipe, every key that a stage leaves unsaid taken from ``[train]``.

    Args:
        path: the TOML file.
        overrides: ``dotted.key=value`` each, the value as in TOML or a bare word.
        registry: the plugins to check tasks, skills and embedder tables against; skills that a task needs and the
            recipe does not mention get a table of their own. Without it only the recipe's own keys are checked.

    Raises:
        UserError: the file cannot be read, or is wrong: all its mistakes, one a line.
    """
    text = _read_text(Path(path), overrides)
    mistakes = check_section(Recipe, text.document)
    if registry is not None:
        mistakes += check_plugins(text.document, registry)
    if mistakes:
        raise UserError(_describe(mistakes, text))
    return _complete(Recipe.model_validate(text.document), text.document, registry)


def _read_text(path: Path, overrides: Sequence[str] = ()) -> Text:
    """Read and parse a recipe and put the overrides in. Raises UserError where one of them is no TOML."""
    written = _read(path)
    try:
        document = parse_toml(written)
    except TOMLError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        line = found.group(1) if found else written.count("\n") + 1
        raise UserError(f"{path}:{line}: not valid TOML: {error}") from error
    parsed = tuple(map(parse_override, overrides))
    for override in parsed:
        apply_override(document, override)
    return Text(path, document, key_lines(written), parsed)


def _describe(mistakes: Sequence[Mistake], text: Text) -> str:
    """All mistakes in the order of their lines, each once."""
    ordered = sorted(mistakes, key=lambda mistake: text.line(mistake.path))
    lines = dict.fromkeys(_describe_one(mistake, text) for mistake in ordered)
    return next(iter(lines)) if len(lines) == 1 else f"{len(lines)} mistakes in {text.path}\n" + "\n".join(lines)


def _describe_one(mistake: Mistake, text: Text) -> str:
    key = ".".join(str(part) for part in mistake.path)
    return ": ".join(filter(None, (text.place(mistake.path), key, mistake.text)))


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not a text in UTF-8: save it as UTF-8") from error
    except OSError as error:
        beside = ", ".join(str(other) for other in sorted(path.parent.glob("*.toml"))[:5])
        hint = f"; there is {beside}" if beside else ""
        raise UserError(f"cannot read the recipe {path}: {error.strerror}{hint}") from error


def _complete(recipe: Recipe, document: Mapping[str, Any], registry: Registry | None) -> Recipe:
    recipe = recipe.with_inherited()
    if registry is None:
        return recipe
    tables = copy.deepcopy(recipe.model.embedders)
    embedders = {skill: tables.get(skill, {}) for skill in needed_skills(document, registry)}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"embedders": embedders})})
