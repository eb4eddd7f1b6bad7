"""The model that ``finetune.start_from`` names: it brings its [model], vocabularies and other assets to the recipe."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, Field, ValidationError

from skillnet_cli.api import UserError
from skillnet_cli.plugins import Registry, resolve
from skillnet_cli.recipe.errors import Mistake, parse_table
from skillnet_cli.recipe.schema import EncoderSection
from skillnet_cli.untrusted import Untrusted, read_bytes, read_json, validate

CONFIG, ASSETS = "config.json", "assets"
_FREE = frozenset({"dropout", "balance"})
"""Keys of [model] that say how to train, and may be others than the model was trained with."""


class _Skill(BaseModel):
    embedder: dict[str, Any]


class _Saved(BaseModel):
    skills: dict[str, _Skill] = Field(min_length=1)


@dataclass(frozen=True)
class Start:
    """A model to start from.

    Attributes:
        folder: the model's.
        encoder: its keys of ``[model]``.
        embedders: its keys of ``[model.embedders]``, by skill.
    """

    folder: Path
    encoder: Mapping[str, Any]
    embedders: Mapping[str, Mapping[str, Any]]


def start_of(document: Mapping[str, Any]) -> Start | None:
    """The model that a recipe's fine-tuning starts from; None where it is a stage, new parameters or on a hub.

    Raises:
        UserError: there is no such folder, or no model in it.
    """
    stage = document.get("finetune")
    name = stage.get("start_from") if isinstance(stage, Mapping) else None
    if not isinstance(name, str) or name in ("fresh", "pretrain"):
        return None
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if len(folder.parts) == 2 and not folder.is_absolute() and not folder.parent.exists():
            return None  # OWNER/NAME
        raise UserError(f"there is no folder '{name}'")
    if not (folder / CONFIG).exists():
        inner = folder / "model"
        hint = f": its model is {inner}" if (inner / CONFIG).exists() else f": it has no {CONFIG}"
        raise UserError(f"'{name}' is not a model's folder{hint}")
    try:
        config = read_json(folder / CONFIG)
        saved = validate(_Saved, config)
    except (OSError, Untrusted) as error:
        raise UserError(f"{folder / CONFIG}: damaged: {error}") from error
    encoder = {key: config[key] for key in EncoderSection.model_fields if key in config}
    return Start(folder, encoder, {skill: facts.embedder for skill, facts in saved.skills.items()})


def bring(document: dict[str, Any], start: Start, skills: tuple[str, ...], registry: Registry) -> list[Mistake]:
    """Put into a recipe what it leaves out and its start has; returns what it has and the start does not fit.

    Args:
        document: the recipe, as parsed; changed in place.
        start: the model to start from.
        skills: those that the recipe uses.
        registry: the plugins, which say what a key of an embedder means.
    """
    model = document.setdefault("model", {})
    if not isinstance(model, dict):
        return []
    mistakes = [Mistake(("model", key), text) for key, text in _differing(model, start)]
    for key, value in start.encoder.items():
        model.setdefault(key, value)
    tables = model.setdefault("embedders", {})
    for skill in skills:
        table = tables.setdefault(skill, {}) if isinstance(tables, dict) else None
        if skill in start.embedders and skill in registry.modalities and isinstance(table, dict):
            mistakes += _bring_embedder(table, start, skill, registry)
    return mistakes


def _differing(model: Mapping[str, Any], start: Start) -> Iterator[tuple[str, str]]:
    for key, theirs in start.encoder.items():
        if key in model and key not in _FREE and model[key] != theirs:
            yield key, _differs(model[key], theirs, start)


def _differs(own: Any, theirs: Any, start: Start) -> str:
    return f"is {own!r}, and in the model to start from, {start.folder}, {theirs!r}: leave the key out"


def _bring_embedder(table: dict[str, Any], start: Start, skill: str, registry: Registry) -> Iterator[Mistake]:
    schema: type[BaseModel] = resolve(registry.modality(skill).config)
    saved, files = dict(start.embedders[skill]), _files(schema)
    asset = _only_asset(start.folder / ASSETS / skill) if len(files) == 1 else None
    for key in files:
        if key in table and asset is not None and not _same_text(Path(str(table[key])), asset):
            yield Mistake(
                ("model", "embedders", skill, key),
                f"is another file than that of the model to start from, {asset}: leave the key out",
            )
        saved.pop(key, None)  # where it lay when the model was trained
        if asset is not None:
            table.setdefault(key, str(asset))
    own = copy.deepcopy(table)
    for key, value in saved.items():
        if value is not None:
            table.setdefault(key, value)
    for key, value in own.items():
        if (
            key in saved
            and value != saved[key]
            and _shapes(schema, {**table, key: saved[key]}, start, skill, registry)
            != (_shapes(schema, table, start, skill, registry))
        ):
            yield Mistake(("model", "embedders", skill, key), _differs(value, saved[key], start))


def _files(schema: type[BaseModel]) -> list[str]:
    """The keys of an embedder that name a file."""
    return [key for key, info in schema.model_fields.items() if Path in (info.annotation, *get_args(info.annotation))]


def _only_asset(folder: Path) -> Path | None:
    """The file among a skill's assets, where there is just one: it is what the skill's one key for a file names."""
    files = [path for path in folder.glob("*") if path.is_file()] if folder.is_dir() else []
    return files[0] if len(files) == 1 else None


def _same_text(one: Path, other: Path) -> bool:
    """Whether two files say the same, byte order marks and the line ends of Windows aside."""
    try:
        contents = [read_bytes(path).removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n") for path in (one, other)]
    except (OSError, Untrusted):
        return True  # what is missing is said where it is read
    return contents[0] == contents[1]


def _shapes(
    schema: type[BaseModel], keys: Mapping[str, Any], start: Start, skill: str, registry: Registry
) -> dict[str, tuple[int, ...]] | None:
    """The shapes of an embedder's tensors; None where the keys are wrong, which is said elsewhere."""
    import torch

    try:
        config = parse_table(schema, keys)
        with torch.device("meta"):
            embedder = resolve(registry.modality(skill).embedder)(config, start.encoder["hidden"])
    except (ValidationError, UserError, KeyError):
        return None
    return {name: tuple(tensor.shape) for name, tensor in embedder.state_dict().items()}
