"""``skillnet plugins``: what is installed, what it brings, what is broken or missing."""

from __future__ import annotations

from typing import Any

from skillnet_cli.api import API_VERSION, Task, UserError
from skillnet_cli.cli.common import AsJson, print_json, print_line, print_table
from skillnet_cli.plugins import Plugin, Registry, load_registry


def plugins(as_json: AsJson = False) -> None:
    """List the installed plugins.

    With what they bring, what is broken, and what to install for tasks that lack a skill.

    \b
    Example:
      skillnet plugins --json
    """
    registry = load_registry()
    if as_json:
        tasks = [owned.value for owned in registry.tasks.values()]
        return print_json({
            "plugins": [_describe(plugin) for plugin in registry.plugins],
            "incomplete": {task.name: hint for task in tasks if (hint := _missing(registry, task))},
        })  # fmt: skip
    _print_plugins(registry)


def _describe(plugin: Plugin) -> dict[str, Any]:
    """A plugin as JSON."""
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "skills": [each.skill for each in plugin.modalities],
        "tasks": [each.name for each in plugin.tasks],
        "datasets": [each.name for each in plugin.datasets],
        "metrics": [each.name for each in plugin.metrics],
        "error": plugin.error,
        "changes": plugin.changes,
    }


def _missing(registry: Registry, task: Task) -> str | None:
    """What to install before a task can be used; None where nothing is missing."""
    try:
        registry.task(task.name)
    except UserError as error:
        return str(error)
    return None


def _print_plugins(registry: Registry) -> None:
    """Print a row for each plugin, then what is missing."""
    if not registry.plugins:
        return print_line("no plugin is installed: pip install 'skillnet-cli[all]'")
    print_table([("plugin", "version", "skills", "tasks", "data sets"), *(_row(plugin) for plugin in registry.plugins)])
    for plugin in registry.plugins:
        if plugin.error:
            print_line(f"\n{plugin.distribution} cannot be loaded: {plugin.error}")
        if plugin.changes:
            print_line(f"Change these names, then state API_VERSION = {API_VERSION} (see docs/plugins.md):")
            print_line("\n".join(f"  {change}" for change in plugin.changes))
    for owned in registry.tasks.values():
        if hint := _missing(registry, owned.value):
            print_line(hint)


def _row(plugin: Plugin) -> tuple[str, ...]:
    """A row of the table."""
    if plugin.error:
        return plugin.distribution, plugin.version, "cannot be loaded", "", ""
    facts = _describe(plugin)
    return plugin.distribution, plugin.version, *(", ".join(facts[kind]) for kind in ("skills", "tasks", "datasets"))
