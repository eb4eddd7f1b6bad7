"""Gradients averaged while the backward pass goes on, against those of copies whose gradients are averaged after it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

from skillnet_cli.engine.distributed.mesh import _reduce_in_the_background, full_tensor, process_group
from tests.ranks import run_ranks


class Tied(nn.Module):
    """A table that is used at both ends, so that its gradient comes in two parts, and layers between."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))

    def forward(self, ids: Tensor) -> Tensor:
        vectors = self.table(ids)
        for layer in self.layers:
            vectors = torch.tanh(layer(vectors))
        return F.cross_entropy(vectors @ self.table.weight.T, ids)


def _compare(passes: int) -> None:
    with process_group() as ranks:
        torch.manual_seed(0)
        model = Tied()
        plain = copy.deepcopy(model)
        mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("copies", "parts"))
        for unit in (*model.layers, model.table, model):
            fully_shard(unit, mesh=mesh["parts"], reshard_after_forward=False)
        _reduce_in_the_background(model, mesh["copies"].get_group())
        generator = torch.Generator().manual_seed(ranks.rank)
        for _ in range(passes):
            ids = torch.randint(50, (400,), generator=generator)
            model(ids).backward()
            plain(ids).backward()
        found = dict(model.named_parameters())
        for name, parameter in plain.named_parameters():
            gradient, wanted = found[name].grad, parameter.grad
            assert gradient is not None and wanted is not None
            distributed.all_reduce(wanted, distributed.ReduceOp.AVG)
            torch.testing.assert_close(full_tensor(gradient), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("passes", [1, 3])
def test_gradients_are_those_of_both_ranks(passes: int) -> None:
    """After one pass, and where later ones add to what is there."""
    assert run_ranks(2, _compare, passes) == [0, 0]
