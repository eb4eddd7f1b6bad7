"""A model in figures, without its weights: parameters and forward FLOPs by part, in all and as tasks activate them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.count import parameters_by_part
from skillnet_cli.model.flops import Flops
from skillnet_cli.model.on_meta import on_meta
from skillnet_cli.model.parts import activated_parts
from skillnet_cli.model.skillnet import SkillNet

SIZES = ("layers", "hidden", "heads", "ffn", "norm", "activation", "routing")
FLOPS = "two a multiplication with its addition, forward, one longest item a tower, heads left out"


def summarise(config: SkillNetConfig, unknown: Mapping[str, str], task: str | None = None) -> dict[str, Any]:
    """Sizes, skills, parameters and FLOPs of a model as JSON holds them.

    ``parameters`` and ``flops`` have a total and every part's share; the FLOPs in total are those of one longest item
    of every skill, or where tasks are separate, in every tower. ``tasks`` has the same as each task activates it. FLOPs
    are None where an embedder does not say what its longest item is.

    Args:
        unknown: tasks whose heads cannot be counted, with the reason; they come back as ``unknown_heads``.
        task: only this one; ``activated_parameters`` and ``activated_flops`` are its totals then.
    """
    return summarise_model(without_storage(config, unknown), unknown, task)


def summarise_model(
    model: SkillNet, unknown: Mapping[str, str], task: str | None = None, flops: Flops | None = None
) -> dict[str, Any]:
    """As :func:`summarise`, of a model that may be without storage; ``flops`` may have counted some of it before."""
    config, parameters, flops = model.config, parameters_by_part(model), flops or Flops(model)
    tasks = {name: _task(model, name, parameters, flops) for name in ([task] if task else config.tasks or {})}
    facts: dict[str, Any] = {
        "encoder": {key: getattr(config, key) for key in SIZES},
        "skills": {
            name: {key: each[key] for key in ("plugin", "version")} for name, each in (config.skills or {}).items()
        },
        "parameters": {"total": sum(parameters.values()), "parts": parameters},
        "flops": {"counted": FLOPS, **_total(flops.of_all())},
        "tasks": tasks,
        "unknown_heads": {name: why for name, why in unknown.items() if task in (None, name)},
    }
    if task:
        own = tasks[task]
        facts |= {"task": task, "activated_parameters": own["activated"], "activated_flops": own["flops"]}
    return facts


def without_storage(config: SkillNetConfig, unknown: Mapping[str, str]) -> SkillNet:
    """A model as shapes alone, without the heads of the ``unknown`` tasks."""
    with on_meta():
        model = SkillNet(config)
    for task in unknown:
        for head in model.objectives[task].heads(config.hidden):
            del model.heads_of(task)[head]
    return model


def _task(model: SkillNet, name: str, parameters: Mapping[str, int], flops: Flops) -> dict[str, Any]:
    own = {part: parameters[part] for part in activated_parts(model, name) if part in parameters}
    done = flops.of_task(name)
    by_part = done or Counter[str]()
    return {
        "skills": list(model.task(name).skills),
        "activated": sum(own.values()),
        "flops": None if done is None else sum(done.values()),
        "parts": {part: {"parameters": own.get(part, 0), "flops": by_part[part]} for part in own},
    }


def _total(parts: Counter[str] | None) -> dict[str, Any]:
    return {"total": None, "parts": {}} if parts is None else {"total": sum(parts.values()), "parts": dict(parts)}
