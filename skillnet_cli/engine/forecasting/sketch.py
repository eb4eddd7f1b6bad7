"""A recipe's model as far as it is known before any set is prepared or vocabulary learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skillnet_cli.api import UserError
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.engine.plan import encoder_keys, open_sets, task_config
from skillnet_cli.model.build import build_readers, config_of, embedder_config
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.on_meta import on_meta
from skillnet_cli.plugins import Registry, resolve
from skillnet_cli.recipe.schema import Recipe


def sketch_model(recipe: Recipe, registry: Registry, roots: Sequence[Path]) -> tuple[SkillNetConfig, dict[str, str]]:
    """The configuration of the model that a recipe trains.

    Returns:
        The configuration, and the tasks whose labels are not known yet, each with the reason.

    Raises:
        UserError: a vocabulary is missing, and the recipe does not say its size.
    """
    tasks, unknown = [], {}
    for name in recipe.task_names():
        task, sets = registry.task(name), dict[str, PreparedSet]()
        if task.target is not None:
            try:
                sets = open_sets(recipe, None, task, roots)
            except UserError as error:
                unknown[name] = str(error)
        tasks.append(task_config(task, sets))
    hidden = recipe.model.hidden
    embedders = {skill: _embedder(skill, keys, hidden, registry) for skill, keys in recipe.model.embedders.items()}
    return config_of(encoder_keys(recipe), embedders, tasks, registry), unknown


def _embedder(skill: str, keys: Mapping[str, Any], hidden: int, registry: Registry) -> Any:
    """A skill's configuration, from its reader where that has all it needs, else as the recipe says it."""
    try:
        return build_readers({skill: keys}, registry)[skill].config
    except UserError as error:
        config = embedder_config(skill, keys, registry)
        try:
            with on_meta():
                resolve(registry.modality(skill).embedder)(config, hidden)
        except ValueError:
            raise error from None
        return config
