"""What all ranks must agree on, found out by asking them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import distributed

from skillnet_cli.api import FailedJob
from skillnet_cli.engine.ranks.distribution import Ranks
from skillnet_cli.engine.update import Updater

EVERY = 10
"""Steps from one comparison of the copies' parameters to the next."""


def agree(ranks: Ranks, facts: Mapping[str, Any], when: str = "at the start") -> None:
    """Compare ``facts`` with those of all other ranks. All ranks must call this together.

    Raises:
        FailedJob: a rank has others than rank 0; all of them raise it, with the rank's number and both values.
    """
    if ranks.world == 1:
        return
    everyone: list[Any] = [None] * ranks.world
    distributed.all_gather_object(everyone, dict(facts))
    differences = list(_differences(everyone))
    if differences:
        raise FailedJob(f"{when} the ranks do not agree: {'; '.join(differences)}")


def _differences(everyone: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    first = everyone[0]
    for rank, facts in enumerate(everyone):
        for what in first:
            if facts[what] != first[what]:
                yield f"{what}: rank {rank} has {facts[what]}, rank 0 has {first[what]}"


def audit(updater: Updater, task: str, places: Sequence[Any], items: int) -> None:
    """Before an update (``train.debug``): the same step and task, the same global batch, the same parameters.

    Args:
        updater: about to make the update.
        task: of this rank's batches.
        places: of the step's global batch in the task's stream.
        items: how many of them are this rank's.
    """
    step, when = updater.progress.step, f"before step {updater.progress.step + 1}"
    if updater.ranks.world == 1:
        return
    facts = {"step": step + 1, "task": task, "global batch": hash(tuple(places)), "items": items}
    agree(updater.ranks, facts, when)
    if step % EVERY == 0 and updater.strategy == "replicate":
        agree(updater.ranks, {f"parameter {name}": total for name, total in _checksums(updater)}, when)


def _checksums(updater: Updater) -> Iterator[tuple[str, int]]:
    """The sum of each parameter's bits on this rank."""
    for name, parameter in updater.model.named_parameters():
        held = parameter.to_local() if hasattr(parameter, "to_local") else parameter
        yield name, int(held.detach().view(torch.int32).sum(dtype=torch.int64))
