from __future__ import annotations

import torch
from torch import nn
from torch.optim import AdamW

from skillnet_cli.engine.step import build_optimizer
from skillnet_cli.objectives.contrastive import Temperature
from skillnet_cli.recipe.schema import OptimizerSection


def model() -> nn.Module:
    torch.manual_seed(0)
    parts = {
        "linear": nn.Linear(3, 3),
        "convolution": nn.Conv1d(3, 3, 2),
        "norm": nn.LayerNorm(3),
        "table": nn.Embedding(4, 3),
        "temperature": Temperature(),
    }
    return nn.ModuleDict(parts)


def set_learning_rate(optimizer: AdamW, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def test_only_weights_that_multiply_are_decayed() -> None:
    whole = model()
    groups = build_optimizer(whole, OptimizerSection(weight_decay=0.5)).param_groups
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    names = {name for name, parameter in whole.named_parameters() if id(parameter) in decayed}
    assert names == {"linear.weight", "convolution.weight"}


def test_decay_alone_moves_nothing_else() -> None:
    whole = model()
    before = {name: parameter.detach().clone() for name, parameter in whole.named_parameters()}
    optimizer = build_optimizer(whole, OptimizerSection(weight_decay=0.5))
    set_learning_rate(optimizer, 0.1)
    for parameter in whole.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in whole.named_parameters():
        factor = 0.95 if name in ("linear.weight", "convolution.weight") else 1.0
        torch.testing.assert_close(parameter, before[name] * factor)


def test_an_update_by_hand() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, for one parameter over three updates, in float64."""
    linear = nn.Linear(1, 1, bias=False)
    settings = OptimizerSection(weight_decay=0.1, betas=(0.8, 0.9), eps=1e-3)
    optimizer = build_optimizer(linear, settings)
    value, mean, square = linear.weight.item(), 0.0, 0.0
    for number, (gradient, rate) in enumerate([(0.5, 0.1), (-2.0, 0.2), (0.3, 0.05)], 1):
        set_learning_rate(optimizer, rate)
        linear.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        mean, square = 0.8 * mean + 0.2 * gradient, 0.9 * square + 0.1 * gradient**2
        corrected = (mean / (1 - 0.8**number)) / ((square / (1 - 0.9**number)) ** 0.5 + 1e-3)
        value = value * (1 - rate * 0.1) - rate * corrected
    torch.testing.assert_close(linear.weight.item(), value, rtol=1e-6, atol=1e-7)


def test_parameters_without_gradient_stay_as_they_are() -> None:
    whole = model()
    optimizer = build_optimizer(whole, OptimizerSection(weight_decay=0.5))
    set_learning_rate(optimizer, 0.1)
    still = whole["convolution"].weight
    still.grad = torch.ones_like(still)
    whole["linear"].weight.grad = torch.ones(3, 3)
    optimizer.step()
    parameter, state = still.detach().clone(), {key: value.clone() for key, value in optimizer.state[still].items()}
    optimizer.zero_grad(set_to_none=True)
    whole["linear"].weight.grad = torch.ones(3, 3)
    optimizer.step()
    assert torch.equal(still, parameter)
    assert all(torch.equal(optimizer.state[still][key], value) for key, value in state.items())
    assert optimizer.state[whole["linear"].weight]["step"] == 2
    assert whole["norm"].weight not in optimizer.state
