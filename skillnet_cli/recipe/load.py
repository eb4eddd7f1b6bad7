"""Loads a recipe, or reports all of its mistakes at once, each with its file and line."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillnet_cli.api import UserError
from skillnet_cli.places import expand_home
from skillnet_cli.plugins import Registry, suggest
from skillnet_cli.recipe.checks import check_plugins, needed_skills
from skillnet_cli.recipe.errors import Mistake, check_section
from skillnet_cli.recipe.schema import Recipe
from skillnet_cli.recipe.start import bring, start_of
from skillnet_cli.recipe.toml import KeyPath, TOMLError, key_lines, parse_toml
from skillnet_cli.untrusted import Untrusted, read_bytes

MAX_BYTES = 4 << 20
"""Bytes of a recipe: ours have some thousands."""


def apply_override(document: dict[str, Any], text: str) -> tuple[str, ...]:
    """Set a key of a document, creating the tables on the way; returns the key's path.

    Args:
        document: A recipe, or a table of one; changed in place.
        text: ``dotted.key=value``; a value that is not valid TOML is taken as a string.

    Raises:
        UserError: the key or the value is missing, a bracket or quotation mark does not close, or the key leads
            through a value that is not a table.
    """
    key, equals, value = text.partition("=")
    path = _key_path(key)
    if not equals or not value.strip() or path is None:
        raise UserError(f"--set {text}: write it as key=value, for example --set finetune.steps=200")
    table = document
    for depth, part in enumerate(path[:-1], 1):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {text}: {'.'.join(path[:depth])} is a value, not a table")
    table[path[-1]] = _value(value.strip(), text)
    return path


def _key_path(key: str) -> tuple[str, ...] | None:
    """The parts of a dotted key, which may be quoted; None where it is not a key."""
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


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with this installation, by name."""
    package = Path(__file__).parents[1]
    # A wheel carries them inside the package, a checkout beside it.
    places = [package / "recipes", package.parent / "recipes"]
    folder = next((place for place in places if place.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))} if folder else {}


def find_recipe(name: Path) -> Path:
    """A recipe's file: a path, or the name of one that comes with skillnet.

    Raises:
        UserError: it looks like a name, and there is no recipe of that name.
    """
    if name.exists() or name.suffix or len(name.parts) > 1:
        return name
    known = shipped_recipes()
    if str(name) not in known:
        hint = suggest(str(name), known, f"choose from {', '.join(known)}, or name a file that ends in .toml")
        raise UserError(f"no recipe '{name}'{hint}")
    return known[str(name)]


@dataclass(frozen=True)
class _Text:
    """A recipe as written: its path, its document with the overrides applied, and where each key comes from."""

    path: Path
    document: dict[str, Any]
    lines: Mapping[KeyPath, int]
    overrides: dict[str, KeyPath]

    def place(self, path: KeyPath) -> str:
        """``file:line`` of a key or of the table that lacks it, or the override that set it."""
        for text, changed in reversed(self.overrides.items()):
            if path[: len(changed)] == changed:
                return f"--set {text}"
        return f"{self.path}:{self.line(path)}"

    def line(self, path: KeyPath) -> int:
        """The line of a key, or of the nearest table around it that is written down."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def load_recipe(
    path: Path, overrides: Sequence[str] = (), registry: Registry | None = None, runs: Path | None = None
) -> Recipe:
    """Read a recipe; keys that a stage does not set are taken from ``[train]``.

    What the recipe leaves out of ``[model]`` and its embedders is taken from the model that ``finetune.start_from``
    names, with the model's vocabularies.

    Args:
        path: the TOML file.
        overrides: ``dotted.key=value`` each, the value as in TOML or a bare word.
        registry: the plugins to check tasks, skills and embedder tables against; skills that a task needs and the
            recipe does not mention get a table of their own. Without it only the recipe's own keys are checked.
        runs: the folder of runs. A run there that has begun to fine-tune needs the model that it started from no more.

    Raises:
        UserError: the file cannot be read or is wrong; the message has one line for each mistake.
    """
    text = _read_text(Path(path), overrides)
    mistakes = _bring_start(text.document, registry, runs) if registry is not None else []
    mistakes += check_section(Recipe, text.document)
    if registry is not None:
        mistakes += check_plugins(text.document, registry)
    if mistakes:
        raise UserError(_describe(mistakes, text))
    return _complete(Recipe.model_validate(text.document), text.document, registry)


def _bring_start(document: dict[str, Any], registry: Registry, runs: Path | None) -> list[Mistake]:
    """Complete a recipe by the model that it starts from; returns what does not fit that."""
    try:
        start = start_of(document)
    except UserError as error:
        begun = None if runs is None else runs / str(document.get("name"))
        if begun is None or not any((begun / "finetune" / "checkpoints").glob("step-*")):
            return [Mistake(("finetune", "start_from"), str(error))]
        kept = _read_text(begun / "recipe.toml").document.get("model", {})
        document["model"] = {**kept, **document.get("model", {})}
        return []
    return bring(document, start, needed_skills(document, registry), registry) if start else []


def _read_text(path: Path, overrides: Sequence[str] = ()) -> _Text:
    """Read and parse a recipe and apply the overrides. Raises UserError where either is not valid TOML."""
    written = _read(path)
    try:
        document = parse_toml(written)
    except TOMLError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        line = found.group(1) if found else written.count("\n") + 1
        raise UserError(f"{path}:{line}: not valid TOML: {error}") from error
    changed: dict[str, KeyPath] = {text: apply_override(document, text) for text in overrides}
    return _Text(path, _with_home(document), key_lines(written), changed)


def _with_home(value: Any) -> Any:
    """A value of a recipe with the home for ``~`` in all its paths, the names of sets among them."""
    if isinstance(value, dict):
        return {expand_home(key): _with_home(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_home(each) for each in value]
    return expand_home(value) if isinstance(value, str) else value


def _describe(mistakes: Sequence[Mistake], text: _Text) -> str:
    """All mistakes in the order of their lines, each once."""
    ordered = sorted(mistakes, key=lambda mistake: text.line(mistake.path))
    lines = dict.fromkeys(_describe_one(mistake, text) for mistake in ordered)
    return next(iter(lines)) if len(lines) == 1 else f"{len(lines)} mistakes in {text.path}\n" + "\n".join(lines)


def _describe_one(mistake: Mistake, text: _Text) -> str:
    key = ".".join(str(part) for part in mistake.path)
    return ": ".join(filter(None, (text.place(mistake.path), key, mistake.text)))


def _read(path: Path) -> str:
    try:
        return read_bytes(path, MAX_BYTES).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text: save the file as UTF-8") from error
    except Untrusted as error:
        raise UserError(f"cannot read the recipe {path}: it {error}") from error
    except OSError as error:
        beside = ", ".join(str(other) for other in sorted(path.parent.glob("*.toml"))[:5])
        hint = f"; its folder has {beside}" if beside else ""
        raise UserError(f"cannot read the recipe {path}: {error.strerror}{hint}") from error


def _complete(recipe: Recipe, document: Mapping[str, Any], registry: Registry | None) -> Recipe:
    recipe = recipe.with_inherited()
    if registry is None:
        return recipe
    tables = copy.deepcopy(recipe.model.embedders)
    embedders = {skill: tables.get(skill, {}) for skill in needed_skills(document, registry)}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"embedders": embedders})})
