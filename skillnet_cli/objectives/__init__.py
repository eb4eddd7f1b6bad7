"""Losses with their heads, one a file. Every loss returns (sum, count): the engine divides by the global count."""

from __future__ import annotations

from skillnet_cli.objectives.base import ComparingObjective, Encoded, Objective, Targets, TaskConfig
from skillnet_cli.plugins import resolve

OBJECTIVES = {
    "classification": "skillnet_cli.objectives.classification:Classification",
    "ctc": "skillnet_cli.objectives.ctc:Ctc",
    "contrastive": "skillnet_cli.objectives.contrastive:Contrastive",
    "masked-tokens": "skillnet_cli.objectives.masked_tokens:MaskedTokens",
    "masked-units": "skillnet_cli.objectives.masked_units:MaskedUnits",
}


def load(name: str) -> type[Objective]:
    """The objective of that name, or of that ``"module:attribute"``. Raises UserError where there is none."""
    objective: type[Objective] = resolve(OBJECTIVES.get(name, name))
    return objective


__all__ = ["OBJECTIVES", "ComparingObjective", "Encoded", "Objective", "Targets", "TaskConfig", "load"]
