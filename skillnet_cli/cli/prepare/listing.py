"""The data sets that plugins prepare, for ``skillnet prepare --list``."""

from __future__ import annotations

from typing import Any

from skillnet_cli.api import Dataset
from skillnet_cli.cli.common import print_json, print_table
from skillnet_cli.plugins import Owned, Registry


def list_datasets(registry: Registry, as_json: bool) -> None:
    """Print every data set that an installed plugin prepares."""
    owned = sorted(registry.datasets.values(), key=lambda each: (each.value.part_of or "", each.value.name))
    if as_json:
        return print_json({"datasets": [_for_programs(each) for each in owned]})
    print_table([("name", "tasks", "plugin", "size", "licence", "from", "options"), *map(_row, owned)])


def _row(owned: Owned[Dataset]) -> tuple[str, ...]:
    """A data set for people."""
    each = owned.value
    options = " ".join(f"--{option.name}" for option in each.options)
    origin = each.url or (each.published[0].url if each.published else "")
    return each.name, ", ".join(each.feeds), owned.plugin.distribution, each.size, each.licence, origin, options


def _for_programs(owned: Owned[Dataset]) -> dict[str, Any]:
    """A data set as JSON."""
    each = owned.value
    return {
        **vars(each),
        "plugin": owned.plugin.distribution,
        "published": [vars(file) for file in each.published],
        "options": [
            {"name": option.name, "type": option.type.__name__, "help": option.help} for option in each.options
        ],
    }
