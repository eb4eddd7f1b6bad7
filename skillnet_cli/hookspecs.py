"""The hooks a plugin may implement, each with its exact signature. Every hook returns immutable objects."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from skillnet_cli.api import Dataset, Metric, Modality, Task, Translator

hookspec = pluggy.HookspecMarker("skillnet")


@hookspec
def skillnet_modalities() -> Iterable[Modality]:  # type: ignore[empty-body]
    """The modalities that this plugin brings, one a skill."""


@hookspec
def skillnet_tasks() -> Iterable[Task]:  # type: ignore[empty-body]
    """The tasks that this plugin defines."""


@hookspec
def skillnet_datasets() -> Iterable[Dataset]:  # type: ignore[empty-body]
    """The data sets that this plugin can prepare."""


@hookspec
def skillnet_metrics() -> Iterable[Metric]:  # type: ignore[empty-body]
    """The metrics that this plugin computes."""


@hookspec
def skillnet_translators() -> Iterable[Translator]:  # type: ignore[empty-body]
    """The translators that this plugin brings, for ``--translator``."""
