"""Whether a checkpoint belongs to the recipe at hand, and what differs if not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from skillnet_cli.api import UserError
from skillnet_cli.recipe import Recipe

FREE = frozenset({"workers", "checkpoints", "eval", "strategy", "patience", "deterministic", "timeout", "debug"})
"""Keys of a stage that may change between two halves of a run: they do not change what is learnt."""


def trained_by(recipe: Recipe, stage: str) -> dict[str, Any]:
    """The parts of a recipe that decide what a stage learns."""
    document = recipe.model_dump(mode="json", exclude_none=True)
    settings = {key: value for key, value in document[stage].items() if key not in FREE}
    started = {"init": document["init"]} if recipe.init else {}
    return {"seed": document["seed"], "model": document["model"], **started, stage: settings}


def check_same(recipe: Recipe, stage: str, saved: Mapping[str, Any], folder: Path) -> None:
    """Raises UserError with the keys that differ between the recipe and the one that wrote the checkpoint."""
    differences = list(_differences(saved, trained_by(recipe, stage)))
    if differences:
        raise UserError(
            f"{folder} was trained with another recipe:\n"
            + "\n".join(f"  {line}" for line in differences)
            + f"\nput these back, choose another run with --set name=…, or delete {folder} to start again"
        )


def _differences(saved: Any, wanted: Any, path: str = "") -> Iterator[str]:
    if isinstance(saved, Mapping) and isinstance(wanted, Mapping):
        for key in dict.fromkeys([*saved, *wanted]):
            yield from _differences(saved.get(key), wanted.get(key), f"{path}.{key}" if path else key)
    elif saved != wanted:
        yield f"{path}: {_said(saved)} there, {_said(wanted)} now"


def _said(value: Any) -> str:
    return "unsaid" if value is None else repr(value)
