"""Reads a recipe and says everything that is wrong with it at once, each mistake with its place."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillnet_cli.api import UserError
from skillnet_cli.plugins import Registry
from skillnet_cli.recipe.checks import check_plugins, needed_skills
from skillnet_cli.recipe.lines import KeyPath, key_lines
from skillnet_cli.recipe.mistakes import Mistake, check_section
from skillnet_cli.recipe.overrides import Override, apply_override, parse_override
from skillnet_cli.recipe.schema import Recipe
from skillnet_cli.recipe.toml import TOMLError, parse_toml


@dataclass(frozen=True)
class Text:
    """A recipe as written: its path, its document with the overrides in place, and where each key comes from."""

    path: Path
    document: dict[str, Any]
    lines: Mapping[KeyPath, int]
    overrides: tuple[Override, ...] = ()

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
    text = read_text(Path(path), overrides)
    mistakes = check_section(Recipe, text.document)
    if registry is not None:
        mistakes += check_plugins(text.document, registry)
    if mistakes:
        raise UserError(describe(mistakes, text))
    return _complete(Recipe.model_validate(text.document), text.document, registry)


def read_text(path: Path, overrides: Sequence[str] = ()) -> Text:
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


def describe(mistakes: Sequence[Mistake], text: Text) -> str:
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
