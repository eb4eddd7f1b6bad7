"""AdamW (Loshchilov and Hutter 2019) with decay where it belongs."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import AdamW

from skillnet_cli.recipe.schema import OptimizerSection


def build_optimizer(model: nn.Module, settings: OptimizerSection) -> AdamW:
    """AdamW over all parameters that are not frozen; only weights of linear layers and convolutions are decayed.

    A parameter that gets no gradient in an update is passed over: it, its moments and its own step count stay as
    they are to the bit.
    """
    decayed = {id(parameter) for parameter in decayed_parameters(model)}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if id(p) in decayed], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=0.0, betas=settings.betas, eps=settings.eps, fused=True)


def decayed_parameters(model: nn.Module) -> Iterator[Tensor]:
    """The weights that multiply their input: not biases, norms, tables of embeddings or positions, temperatures."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, _ConvNd)):
            yield module.weight


def set_learning_rate(optimizer: AdamW, rate: float) -> None:
    """Use ``rate`` for all parameters from the next update on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
