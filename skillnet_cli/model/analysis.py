"""A model in figures, without its weights: parameters and forward FLOPs by part, in all and as tasks activate them.

FLOPs are two for every multiplication with its addition, in products and convolutions alone. An item is as long as its
skill's configuration allows (an embedder's ``longest``). Heads are left out: they cost less than a thirtieth of an
encoder pass at the paper's sizes. The embedders run on memory, since where their tokens lie depends on their input, and
so does a mixture of experts; other encoders, which are all but the whole cost, on shapes alone.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from skillnet_cli.api import UserError
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.device import on_meta
from skillnet_cli.model.parts import parameters_by_part, part_of
from skillnet_cli.model.sequences import Segment, Tower, join
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.model.variants import MixtureOfExperts
from skillnet_cli.plugins import Registry


class _Counted(NamedTuple):
    """A tower's FLOPs by part, and the tokens that each segment's embedder made, ``[CLS]`` included."""

    parts: Counter[str]
    tokens: tuple[int, ...]


class Flops:
    """Counts a model's FLOPs, every kind of tower once. The model may be built without storage."""

    def __init__(self, model: SkillNet) -> None:
        self.model = model
        self._towers: dict[tuple[str, tuple[str, ...]], _Counted] = {}

    def of_task(self, task: str) -> Counter[str] | None:
        """FLOPs by part of a forward pass of one longest sequence in each tower of a task.

        None where one of the embedders does not say what its longest item is.
        """
        parts: Counter[str] = Counter()
        for skills, tower in zip(self.model.task(task).towers, self.model.towers_of(task), strict=True):
            counted = self.of_tower(skills, tower)
            if counted is None:
                return None
            parts.update(counted)
        return parts

    def tokens_of(self, task: str) -> list[tuple[int, ...]] | None:
        """Towers × segments: the tokens of one longest item of a task, ``[CLS]`` included; None as above."""
        if self.of_task(task) is None:
            return None
        towers = zip(self.model.task(task).towers, self.model.towers_of(task), strict=True)
        return [self._towers[tower.place, skills].tokens for skills, tower in towers]

    def of_all(self) -> Counter[str] | None:
        """The same of one longest item of every skill; where tasks are separate, in each of their towers."""
        if self.model.tasks:
            counts = [self.of_task(task) for task in self.model.config.tasks]
        else:
            counts = [self.of_tower((skill,), self.model.tower) for skill in self.model.config.skills]
        known = [count for count in counts if count is not None]
        return sum(known, Counter()) if len(known) == len(counts) else None

    def of_tower(self, skills: tuple[str, ...], tower: Tower) -> Counter[str] | None:
        """The same of one tower of the model, whose segments are of these skills."""
        if not all(hasattr(tower.embedders[skill], "longest") for skill in skills):
            return None
        if (tower.place, skills) not in self._towers:
            self._towers[tower.place, skills] = _count(tower, skills)
        return self._towers[tower.place, skills].parts


@torch.no_grad()
def _count(tower: Tower, skills: tuple[str, ...]) -> _Counted:
    # Which expert a token goes to is in the tokens: a mixture needs real ones, all else is counted on shapes.
    on_shapes = not any(isinstance(module, MixtureOfExperts) for module in tower.encoder.modules())
    parts: Counter[str] = Counter()
    segments = []
    for skill in skills:
        embedder = _on_memory(tower.embedders[skill])
        with FlopCounterMode(display=False) as counter:
            segments.append(Segment(skill, *embedder(embedder.longest())))
        parts[part_of(f"{tower.place}embedders.{skill}")] += counter.get_total_flops()
    joined = join(segments)
    encoder = copy.deepcopy(tower.encoder).to("meta") if on_shapes else _on_memory(tower.encoder)
    # torch counts no product inside a CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(joined.tokens.to("meta") if on_shapes else joined.tokens, joined.lengths, joined.routes)
    for module, flops in _own(counter).items():
        parts[part_of(f"{tower.place}encoder.{module}")] += flops
    return _Counted(parts, tuple(int(segment.lengths.sum()) for segment in segments))


MOST_BYTES = 8 << 30
"""The largest embedder that is counted."""


def _on_memory(module: nn.Module) -> Any:
    """A copy of a module with storage; what it holds does not matter. Raises UserError where it is too large."""
    if (size := sum(each.numel() * each.element_size() for each in module.parameters())) > MOST_BYTES:
        raise UserError(f"a module of {size / 1e9:,.0f} GB is too large for its FLOPs to be counted on this machine")
    copied = copy.deepcopy(module).to("meta").to_empty(device="cpu")
    for parameter in copied.parameters():
        parameter.zero_()
    return copied


def _own(counter: FlopCounterMode) -> Counter[str]:
    """What every module below the counted one does itself: its count without that of the modules inside it."""
    totals = {name: sum(each.values()) for name, each in counter.get_flop_counts().items() if name != "Global"}
    own: Counter[str] = Counter()
    for name, flops in totals.items():
        own[name] += flops
        around = name.rpartition(".")[0]
        while around and around not in totals:
            around = around.rpartition(".")[0]
        if around:
            own[around] -= flops
    return Counter({name.partition(".")[2]: flops for name, flops in own.items()})


SIZES = ("layers", "hidden", "heads", "ffn", "norm", "activation", "routing")
FLOPS = "two a multiplication with its addition, forward, one longest item a tower, heads left out"


def summarise(
    model: SkillNet, unknown: Mapping[str, str], task: str | None = None, flops: Flops | None = None
) -> dict[str, Any]:
    """Sizes, skills, parameters and FLOPs of a model, which may be without storage, as JSON holds them.

    ``parameters`` and ``flops`` have a total and every part's share; the FLOPs in total are those of one longest item
    of every skill, or where tasks are separate, in every tower. ``tasks`` has the same as each task activates it. FLOPs
    are None where an embedder does not say what its longest item is.

    Args:
        model: as :func:`without_storage` builds it, for one.
        unknown: tasks whose heads cannot be counted, with the reason; they come back as ``unknown_heads``.
        task: only this one; ``activated_parameters`` and ``activated_flops`` are its totals then.
        flops: of this model; may have counted some of it before.
    """
    config, parameters, flops = model.config, parameters_by_part(model), flops or Flops(model)
    tasks = {name: _task(model, name, parameters, flops) for name in ([task] if task else config.tasks)}
    facts: dict[str, Any] = {
        "encoder": {key: getattr(config, key) for key in SIZES},
        "skills": {name: {key: each[key] for key in ("plugin", "version")} for name, each in config.skills.items()},
        "parameters": {"total": sum(parameters.values()), "parts": parameters},
        "flops": {"counted": FLOPS, **_total(flops.of_all())},
        "tasks": tasks,
        "unknown_heads": {name: why for name, why in unknown.items() if task in (None, name)},
    }
    if task:
        own = tasks[task]
        facts |= {"task": task, "activated_parameters": own["activated"], "activated_flops": own["flops"]}
    return facts


def without_storage(config: SkillNetConfig, unknown: Mapping[str, str], registry: Registry) -> SkillNet:
    """A model as shapes alone.

    Args:
        config: the model's.
        unknown: tasks that are built without their heads.
        registry: the plugins to build from.
    """
    with on_meta():
        model = SkillNet(config, registry)
    for task in unknown:
        for head in model.objectives[task].heads(config.hidden):
            del model.heads_of(task)[head]
    return model


def _task(model: SkillNet, name: str, parameters: Mapping[str, int], flops: Flops) -> dict[str, Any]:
    own = {part: parameters[part] for part in model.activated_parts(name) if part in parameters}
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
