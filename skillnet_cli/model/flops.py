"""Forward FLOPs by part: two for every multiplication with its addition, in products and convolutions alone.

An item is as long as its skill's configuration allows (an embedder's ``longest``). Heads are left out: they cost less
than a thirtieth of an encoder pass at the paper's sizes. The embedders run on memory, since where their tokens lie
depends on their input; the encoder, which is all but the whole cost, on shapes alone.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from skillnet_cli.model.parts import part_of
from skillnet_cli.model.sequences import Segment, join
from skillnet_cli.model.skillnet import SkillNet


class Flops:
    """Counts a model's FLOPs, every kind of tower once. The model may be built without storage."""

    def __init__(self, model: SkillNet) -> None:
        self.model = model
        self._towers: dict[tuple[str, ...], Counter[str]] = {}

    def of_towers(self, towers: Iterable[tuple[str, ...]]) -> Counter[str] | None:
        """FLOPs by part of a forward pass of one longest sequence in each tower, whose segments are of these skills.

        None where one of the embedders does not say what its longest item is.
        """
        parts: Counter[str] = Counter()
        for skills in towers:
            if not all(hasattr(self.model.embedders[skill], "longest") for skill in skills):
                return None
            if skills not in self._towers:
                self._towers[skills] = _tower(self.model, skills)
            parts.update(self._towers[skills])
        return parts


@torch.no_grad()
def _tower(model: SkillNet, skills: tuple[str, ...]) -> Counter[str]:
    parts: Counter[str] = Counter()
    segments = []
    for skill in skills:
        embedder = _on_memory(model.embedders[skill])
        with FlopCounterMode(display=False) as counter:
            segments.append(Segment(skill, *embedder(embedder.longest())))
        parts[f"embedder:{skill}"] += counter.get_total_flops()
    joined = join(segments)
    encoder = copy.deepcopy(model.encoder).to("meta")
    with FlopCounterMode(display=False) as counter:
        encoder(joined.tokens.to("meta"), joined.lengths, joined.routes)
    for module, flops in _own(counter).items():
        parts[part_of(f"encoder.{module}")] += flops
    return parts


def _on_memory(embedder: nn.Module) -> Any:
    """A copy of an embedder with storage; what it holds does not matter."""
    copied = copy.deepcopy(embedder).to("meta").to_empty(device="cpu")
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
