"""Losses with their heads, one a file. Every loss returns (sum, count): the engine divides by the global count."""

from __future__ import annotations

from skillnet_cli.objectives.base import (
    SYMBOLS,
    ComparingObjective,
    Encoded,
    Objective,
    Targets,
    TaskConfig,
    check_target,
)
from skillnet_cli.plugins import Registry, resolve

OBJECTIVES = {
    "classification": "skillnet_cli.objectives.classification:Classification",
    "ctc": "skillnet_cli.objectives.ctc:Ctc",
    "contrastive": "skillnet_cli.objectives.contrastive:Contrastive",
    "masked-tokens": "skillnet_cli.objectives.masked_tokens:MaskedTokens",
    "masked-units": "skillnet_cli.objectives.masked_units:MaskedUnits",
}


def check(name: str, registry: Registry) -> None:
    """Raises UserError where ``name`` is neither the core's nor a ``"module:attribute"`` that a plugin's task has."""
    if name not in OBJECTIVES:
        registry.check_brought("objective", name)


def load(name: str, registry: Registry) -> type[Objective]:
    """The objective of that name, or of that ``"module:attribute"``.

    Raises:
        UserError: neither the core nor a plugin brings it.
    """
    check(name, registry)
    objective: type[Objective] = resolve(OBJECTIVES.get(name, name))
    return objective


__all__ = [
    "OBJECTIVES",
    "SYMBOLS",
    "ComparingObjective",
    "Encoded",
    "Objective",
    "Targets",
    "TaskConfig",
    "check",
    "check_target",
    "load",
]
