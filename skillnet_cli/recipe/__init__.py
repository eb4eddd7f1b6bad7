"""Recipes: one TOML file describes a model and its training. Nothing here imports torch."""

from __future__ import annotations

from skillnet_cli.recipe.load import load_recipe
from skillnet_cli.recipe.schema import Recipe, Stage, StageTask

__all__ = ["Recipe", "Stage", "StageTask", "load_recipe"]
