"""What the shell offers for arguments: names that the installed plugins bring."""

from __future__ import annotations


def dataset_names(incomplete: str) -> list[str]:
    """Data sets, and the names that several are part of."""
    from skillnet_cli.plugins import load_registry

    datasets = [owned.value for owned in load_registry().datasets.values()]
    return _beginning(incomplete, {name for each in datasets for name in (each.name, each.part_of) if name})


def task_names(incomplete: str) -> list[str]:
    """Tasks."""
    from skillnet_cli.plugins import load_registry

    return _beginning(incomplete, set(load_registry().tasks))


def skill_names(incomplete: str) -> list[str]:
    """Skills."""
    from skillnet_cli.plugins import load_registry

    return _beginning(incomplete, set(load_registry().modalities))


def _beginning(incomplete: str, names: set[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
