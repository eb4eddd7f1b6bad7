"""The gradients of a batch in pieces are those of the whole: micro-batches, two passes, layers computed anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from skillnet_cli.data.pipeline import TaskBatch
from skillnet_cli.engine.loader import StepDataset
from skillnet_cli.engine.step import Updater, seed_torch
from skillnet_cli.model.device import autocast
from skillnet_cli.model.skillnet import Embeddings
from skillnet_cli.plugins import load_registry
from tests.engine.test_train import ALONE, start
from tests.engine.test_variants import ROUTINGS
from tests.workbench import TASKS, World, tasks

EVERY: dict[str, dict[str, Any]] = {"skill": {}, **ROUTINGS}


def prepared(
    world: World, task: str, micro_batch: int | None = 3, recompute: bool = False, **changes: Any
) -> tuple[Updater, list[TaskBatch], list[TaskBatch]]:
    """An updater, and an update's items in micro-batches and as one batch."""
    plan, updater = start(world, finetune__tasks=tasks(task, micro_batch=micro_batch, recompute=recompute), **changes)
    whole, _ = start(world, finetune__tasks=tasks(task), **changes)
    pieces, one = (StepDataset.of(each, load_registry(), ALONE)[0] for each in (plan, whole))
    assert len(one) == 1 and len(pieces) > 1 and one[0].ids == tuple(id for piece in pieces for id in piece.ids)
    return updater, pieces, one


def gradients(updater: Updater, batches: Sequence[TaskBatch]) -> dict[str, Tensor]:
    updater.model.zero_grad(set_to_none=True)
    updater.accumulate(batches)
    return collected(updater)


def collected(updater: Updater) -> dict[str, Tensor]:
    named = updater.model.named_parameters()
    return {name: parameter.grad for name, parameter in named if parameter.grad is not None}


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The norm of the difference over the norm, of all gradients together."""
    assert one.keys() == other.keys() and one
    flat = [torch.cat([each[name].flatten().double() for name in one]) for each in (one, other)]
    return ((flat[0] - flat[1]).norm() / flat[0].norm()).item()


@pytest.mark.parametrize("task", [*TASKS, "mirror"])
def test_pieces_of_unequal_counts_have_the_gradient_of_the_whole(world: World, task: str) -> None:
    """Characters, hidden tokens and hidden frames are as many in no two pieces; pairs are compared with all others."""
    updater, pieces, one = prepared(world, task)
    assert distance(gradients(updater, one), gradients(updater, pieces)) < 1e-6
    figures = [torch.stack(updater.accumulate(batches)) for batches in (one, pieces)]
    torch.testing.assert_close(figures[0], figures[1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("routing", EVERY)
def test_two_passes_have_the_gradient_of_one(world: World, routing: str) -> None:
    """Parameter by parameter in float64, the temperature and a mixture's gate, with its balance, included."""
    updater, pieces, one = prepared(world, "match", **EVERY[routing])
    updater.model.double()
    in_double = [[_double(batch) for batch in batches] for batches in (one, pieces)]
    wanted, found = (gradients(updater, batches) for batches in in_double)
    assert any(name.endswith("logit_scale") for name in wanted)
    for name, gradient in wanted.items():
        # Vectors are compared in float32.
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-6 * gradient.abs().max().item(), msg=name)


def _double(batch: TaskBatch) -> TaskBatch:
    towers = tuple(
        tuple(
            {key: each.double() if each.is_floating_point() else each for key, each in segment.items()} for segment in t
        )
        for t in batch.towers
    )
    return replace(batch, towers=towers)


def test_both_passes_drop_the_same(world: World) -> None:
    """By hand, with every chunk's graph in memory: the same random numbers, the loss of all, one backward pass."""
    updater, pieces, one = prepared(world, "match", model__dropout=0.3)
    found = gradients(updater, pieces)
    updater.model.zero_grad(set_to_none=True)
    chunks = []
    for number, piece in enumerate(pieces):
        seed_torch(1, 0, 0, number)
        chunks.append(updater.model.encode_batch("match", piece.towers, piece.targets)[0])
    vectors = tuple(torch.cat(parts) for parts in zip(*chunks, strict=True))
    updater.model.contrastive_loss("match", Embeddings(vectors, ()), one[0].targets)[0].backward()
    assert distance(collected(updater), found) < 1e-6
    updater.progress.step = 1
    assert distance(gradients(updater, pieces), found) > 1e-2


@pytest.mark.parametrize("frozen", [1, 2])
def test_frozen_towers_are_compared_all_the_same(world: World, frozen: int) -> None:
    updater, pieces, one = prepared(world, "match", model__routing="separate")
    for tower in updater.model.towers_of("match")[:frozen]:
        tower.requires_grad_(False)
    wanted = gradients(updater, one)
    assert not any(name.startswith("tasks.match.towers.0.") for name in wanted)
    assert distance(wanted, gradients(updater, pieces)) < 1e-6


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("routing", EVERY)
def test_layers_computed_anew_change_no_gradient(world: World, routing: str, precision: str) -> None:
    """To the bit, dropout running, in fewer bytes of activations; with two passes as well."""
    changes = {"model__dropout": 0.3, **EVERY[routing]}
    (kept, pieces, one), (anew, *_) = (
        prepared(world, "match", recompute=recompute, **changes) for recompute in (False, True)
    )
    kept.precision = anew.precision = precision
    for batches in (one, pieces):
        wanted, found = gradients(kept, batches), gradients(anew, batches)
        assert wanted.keys() == found.keys()
        assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())
    assert activations(anew, one[0], True) < 0.7 * activations(kept, one[0], False)


def activations(updater: Updater, batch: TaskBatch, recompute: bool) -> int:
    """Bytes that the forward pass keeps for the backward pass."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    seed_torch(1, 2, 3)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, autocast(updater.precision, ALONE.device):
        updater.model(batch.task, batch.towers, batch.targets, recompute)
    return sum(storages.values())


def test_plain_micro_batches_draw_as_they_always_did(world: World) -> None:
    """One seed an update: the second micro-batch goes on with the numbers where the first one stopped."""
    updater, pieces, _ = prepared(world, "fill", model__dropout=0.3)
    seed_torch(1, 0, 0)
    losses = [updater.model(piece.task, piece.towers, piece.targets)[0] for piece in pieces]
    assert updater.accumulate(pieces)[0].item() == pytest.approx(sum(losses).item(), rel=1e-6)


def test_a_large_scale_is_brought_back_by_the_update(world: World) -> None:
    plan, updater = start(world, finetune__tasks=tasks("match"), finetune__lr=0.1, finetune__schedule="constant")
    scale = updater.model.heads["match"].logit_scale
    scale.data.fill_(4.7)
    batches = StepDataset.of(plan, load_registry(), ALONE)[0]
    updater.update(batches)
    assert scale.exp().item() == pytest.approx(100, rel=1e-5)
    values = [scale.item() for _ in range(3) if updater.update(batches)]
    assert min(values) < 4.6, "an untrained model wants a lower one, and it goes there"
