"""Plugins: the hooks that they implement, finding and loading them, and the :class:`Registry` of what they bring.

Every plugin gets a pluggy manager of its own, so that one which raises, in its import or in a hook, does not affect
the others.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Literal, TypeVar

import pluggy

from skillnet_cli.api import API_VERSION, Dataset, Metric, Modality, Task, Translator, UserError
from skillnet_cli.api_changes import changes_needed, stated_version
from skillnet_cli.terminal import remark

GROUP = "skillnet"
"""The entry-point group of plugins, and pluggy's name for the project."""

_KINDS = {"modalities": Modality, "tasks": Task, "datasets": Dataset, "metrics": Metric, "translators": Translator}
"""What a hook's name ends in, and the class of what it returns."""

_PUBLISHED = {
    "skillnet-text": {"skill": ["text"], "task": ["tc", "text-pair", "mlm"], "translator": ["marian", "transmart"]},
    "skillnet-sound": {"skill": ["sound"], "task": ["asr", "units"], "metric": ["cer"]},
    "skillnet-image": {"skill": ["image"], "task": ["t2i", "image-text"]},
    "skillnet-video": {"skill": ["video"], "task": ["t2v", "video-text"]},
    "skillnet-code": {"skill": ["code"], "task": ["t2c", "code-mlm"]},
}
"""Published plugins by distribution and what they bring: read only to tell a user what to install."""

T = TypeVar("T")
_hookspec = pluggy.HookspecMarker(GROUP)


class Hooks:
    """The hooks that a plugin may implement as functions of its top module; each returns immutable objects."""

    @_hookspec
    def skillnet_modalities(self) -> Iterable[Modality]:  # type: ignore[empty-body]
        """The modalities that this plugin brings, one for each skill."""

    @_hookspec
    def skillnet_tasks(self) -> Iterable[Task]:  # type: ignore[empty-body]
        """The tasks that this plugin defines."""

    @_hookspec
    def skillnet_datasets(self) -> Iterable[Dataset]:  # type: ignore[empty-body]
        """The data sets that this plugin can prepare."""

    @_hookspec
    def skillnet_metrics(self) -> Iterable[Metric]:  # type: ignore[empty-body]
        """The metrics that this plugin computes."""

    @_hookspec
    def skillnet_translators(self) -> Iterable[Translator]:  # type: ignore[empty-body]
        """The translators that this plugin brings, for ``--translator``."""


@dataclass(frozen=True)
class Plugin:
    """One installed plugin.

    Where it could not be loaded, ``error`` says why in one line. Where it was written for an earlier API version,
    ``changes`` lists the lines of its files to change.
    """

    name: str
    distribution: str
    version: str
    modalities: tuple[Modality, ...] = ()
    tasks: tuple[Task, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    metrics: tuple[Metric, ...] = ()
    translators: tuple[Translator, ...] = ()
    error: str | None = None
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Owned(Generic[T]):
    """Something that a plugin brings, and that plugin."""

    value: T
    plugin: Plugin


@dataclass(frozen=True)
class Registry:
    """Everything that the loaded plugins bring, by name."""

    plugins: tuple[Plugin, ...] = ()
    modalities: Mapping[str, Owned[Modality]] = field(default_factory=dict)
    tasks: Mapping[str, Owned[Task]] = field(default_factory=dict)
    datasets: Mapping[str, Owned[Dataset]] = field(default_factory=dict)
    metrics: Mapping[str, Owned[Metric]] = field(default_factory=dict)
    translators: Mapping[str, Owned[Translator]] = field(default_factory=dict)

    def modality(self, skill: str) -> Modality:
        """The modality of a skill. Raises UserError, with what to install, where there is none."""
        return self._find("skill", self.modalities, skill)

    def task(self, name: str) -> Task:
        """A task whose skills are all installed. Raises UserError, with what to install, otherwise."""
        task = self._find("task", self.tasks, name)
        for skill in self.missing_skills(task):
            raise UserError(f"task '{name}' needs the skill '{skill}': {self._install('skill', skill)}")
        return task

    def dataset(self, name: str) -> Dataset:
        """A data set by name. Raises UserError where no installed plugin prepares it."""
        return self._find("data set", self.datasets, name)

    def datasets_named(self, name: str) -> tuple[Dataset, ...]:
        """The data set of that name, or all data sets that are part of it. Raises UserError where there is none."""
        parts = tuple(owned.value for owned in self.datasets.values() if owned.value.part_of == name)
        return parts or (self.dataset(name),)

    def metric(self, name: str) -> Metric:
        """A metric by name. Raises UserError where no installed plugin computes it."""
        return self._find("metric", self.metrics, name)

    def translator(self, name: str) -> Translator:
        """A translator by name. Raises UserError where no installed plugin brings it."""
        return self._find("translator", self.translators, name)

    def check_brought(self, kind: Literal["objective", "metric"], reference: str) -> None:
        """Raises UserError where no plugin brings this ``"module:attribute"`` as an objective or a metric.

        The string may come from a model's configuration, which is data and must not choose what is imported.
        """
        tasks = [owned.value for owned in self.tasks.values()]
        if kind == "objective":
            known = {task.objective for task in tasks}
        else:
            known = {metric for task in tasks for metric in task.metrics}
            known |= {owned.value.compute for owned in self.metrics.values()}
        if reference not in known:
            raise UserError(f"no installed plugin brings the {kind} {reference!r}: install the plugin that does")

    def missing_skills(self, task: Task) -> tuple[str, ...]:
        """The skills that a task needs and no installed plugin brings."""
        return tuple(skill for skill in task.skills if skill not in self.modalities)

    def modality_of_suffix(self, suffix: str) -> Modality | None:
        """The modality that claims files ending in ``suffix`` (with its dot, any case), or None."""
        for owned in self.modalities.values():
            if suffix.lower() in owned.value.suffixes:
                return owned.value
        return None

    def _find(self, kind: str, table: Mapping[str, Owned[T]], name: str) -> T:
        if name in table:
            return table[name].value
        raise UserError(f"unknown {kind} '{name}'{suggest(name, table, self._install(kind, name))}")

    def _install(self, kind: str, name: str) -> str:
        """What to do about a missing name: repair the plugin that brings it, install one, or choose another name."""
        for distribution, brings in _PUBLISHED.items():
            if name in brings.get(kind, ()):
                errors = [
                    plugin.error for plugin in self.plugins if plugin.distribution == distribution and plugin.error
                ]
                if errors:
                    return f"{distribution} brings it and could not be loaded ({errors[0]})"
                return f"pip install {distribution}"
        tables: dict[str, Mapping[str, Any]] = {
            "skill": self.modalities, "task": self.tasks, "data set": self.datasets, "metric": self.metrics,
            "translator": self.translators,
        }  # fmt: skip
        return f"installed are {', '.join(sorted(tables[kind])) or 'none'}"


def suggest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a message about a name that is not known: ``: did you mean 'x'?``.

    Args:
        name: What was given.
        known: What could have been meant.
        otherwise: What the message ends in where nothing known is like ``name``.
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean '{near[0]}'?" if near else otherwise
    return f": {hint}" if hint else ""


def require(kind: str, name: str, known: Collection[str], model: str, registry: Registry | None = None) -> None:
    """Raises UserError where a model lacks a skill or task, with the nearest name or all that it has.

    Args:
        kind: ``"skill"`` or ``"task"``.
        name: that was asked for.
        known: what the model has of the kind.
        model: what it is called in the message, such as "the model in runs/demo/model".
        registry: also says what to install where no plugin has the name.
    """
    if name in known:
        return
    if registry is not None:
        registry.task(name) if kind == "task" else registry.modality(name)
    hint = suggest(name, known, f"it has {', '.join(known) or 'none'}")
    raise UserError(f"{model} has no {kind} '{name}'{hint}")


def resolve(reference: str) -> Any:
    """Import what ``"module:attribute"`` names. Raises UserError where it does not exist.

    ``reference`` is a plugin's or the core's own string; one that may come from data is checked first
    (:meth:`Registry.check_brought`).
    """
    module, _, attribute = reference.partition(":")
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise UserError(f"cannot load '{reference}': {error}") from error


@functools.cache
def load_registry() -> Registry:
    """Load every installed plugin, or those that SKILLNET_PLUGINS names; once per process.

    Only commands and the public constructors of models call this: whatever lies below is given the registry.
    """
    registry = build_registry(load_plugin(entry) for entry in selected_entry_points())
    for plugin in registry.plugins:
        if plugin.error:
            message = f"plugin '{plugin.name}' ({plugin.distribution}) could not be loaded: {plugin.error}"
            message += "; 'skillnet plugins' lists what to change" if plugin.changes else ""
            if os.environ.get("SKILLNET_STRICT_PLUGINS") == "1":
                raise UserError(message)
            remark(message)
    return registry


def selected_entry_points() -> list[EntryPoint]:
    """The entry points of the group ``skillnet`` by name; only those in SKILLNET_PLUGINS where it is set."""
    entries = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    wanted = os.environ.get("SKILLNET_PLUGINS")
    if wanted is None:
        return entries
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in {entry.name for entry in entries}:
            raise UserError(f"SKILLNET_PLUGINS names '{name}', which is not installed")
    return [entry for entry in entries if entry.name in names]


def load_plugin(entry: EntryPoint) -> Plugin:
    """Import one plugin and call its hooks; whatever it raises becomes its ``error``."""
    distribution = entry.dist.name if entry.dist else entry.name
    version = entry.dist.version if entry.dist else "0"
    try:
        return Plugin(entry.name, distribution, version, **_call_hooks(entry.load(), entry.name))
    except (Exception, SystemExit) as error:
        # A plugin for another version often fails in an import already, so its files are asked, not its module.
        package = entry.module.partition(".")[0]
        stated = stated_version(package)
        if stated not in (None, API_VERSION):
            reason = f"it is written for API version {stated}, and this skillnet has version {API_VERSION}"
            changes = tuple(changes_needed(package)) if stated < API_VERSION else ()
            return Plugin(entry.name, distribution, version, error=reason, changes=changes)
        first_line = (str(error).splitlines() or [""])[0]
        return Plugin(entry.name, distribution, version, error=f"{type(error).__name__}: {first_line}")


def _call_hooks(module: Any, name: str) -> dict[str, Any]:
    """What the hooks of a plugin's top module return, by kind."""
    if getattr(module, "API_VERSION", None) != API_VERSION:
        raise UserError(f"{module.__name__} does not state API_VERSION = {API_VERSION}")
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(Hooks)
    manager.register(module, name=name)
    manager.check_pending()  # raises for a function called skillnet_… that is not one of the hooks
    brought = {}
    for kind, wanted in _KINDS.items():
        brought[kind] = tuple(value for values in getattr(manager.hook, f"skillnet_{kind}")() for value in values)
        for value in brought[kind]:
            if not isinstance(value, wanted):
                raise UserError(f"skillnet_{kind} returns {value!r}, which is not an api.{wanted.__name__}")
    return brought


def build_registry(plugins: Iterable[Plugin]) -> Registry:
    """Gather what plugins bring. Raises UserError, with both owners, where two claim the same name."""
    loaded = tuple(plugins)
    return Registry(
        plugins=loaded,
        modalities=_gather("skill", ((m.skill, m, p) for p in loaded for m in p.modalities)),
        tasks=_gather("task", ((t.name, t, p) for p in loaded for t in p.tasks)),
        datasets=_gather("data set", ((d.name, d, p) for p in loaded for d in p.datasets)),
        metrics=_gather("metric", ((m.name, m, p) for p in loaded for m in p.metrics)),
        translators=_gather("translator", ((t.name, t, p) for p in loaded for t in p.translators)),
    )


def _gather(kind: str, claims: Iterable[tuple[str, T, Plugin]]) -> dict[str, Owned[T]]:
    table: dict[str, Owned[T]] = {}
    for name, value, plugin in claims:
        if name in table:
            owners = f"{table[name].plugin.distribution} and {plugin.distribution}"
            raise UserError(f"{kind} '{name}' is claimed by {owners}: uninstall one, or choose with SKILLNET_PLUGINS")
        table[name] = Owned(value, plugin)
    return table
