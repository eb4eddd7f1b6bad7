"""What the comparisons with other implementations share: models of one skill, weights of two scales, the two bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skillnet_cli.model.build import config_of, embedder_config
from skillnet_cli.model.init import InitReport, initialise
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe.schema import InitSection

SMALL = {"layers": 3, "hidden": 48, "heads": 4, "ffn": 96, "dropout": 0.0}
CLIP_LIKE = {"norm": "pre", "activation": "quick_gelu"}
BERT_LIKE = {"norm": "post", "activation": "gelu"}


def skillnet(sizes: dict[str, Any], **embedders: dict[str, Any]) -> SkillNet:
    """A model without tasks, of the installed plugins' skills."""
    registry = load_registry()
    configs = {skill: embedder_config(skill, keys, registry) for skill, keys in embedders.items()}
    return SkillNet(config_of(sizes, configs, (), registry), registry).eval()


def start(model: SkillNet, shared: bool = True, **sources: Path) -> InitReport:
    """Start a model's skills from folders, as a recipe's ``[init]`` does."""
    sections = {
        skill: InitSection.model_validate({"from": str(path), "shared": shared}) for skill, path in sources.items()
    }
    return initialise(model, sections, load_registry())


@torch.no_grad()
def reweigh(module: nn.Module, scale: str, seed: int = 0) -> None:
    """Give a reference model weights: ``"random"`` as at the start of training, or of a ``"trained"`` model's scale.

    In trained Transformers norms have a few channels far above the others, biases are not small, and activations
    reach many tens, where roundings differ more.
    """
    generator = torch.Generator().manual_seed(seed)
    trained = scale == "trained"
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name.lower():
            parameter.copy_(float(name.endswith("weight")) + (0.3 if trained else 0.05) * noise)
            if trained:
                parameter[:: len(parameter) // 3] *= 6
        elif parameter.ndim == 1:
            parameter.copy_(noise * (0.3 if trained else 0.02))
        else:
            parameter.copy_(noise * (parameter[0].numel() ** -0.5 if trained else 0.02))


def assert_same(ours: Tensor, theirs: Tensor) -> float:
    """At most 1e-10 apart in float64, at most 1e-5 of the largest value in float32. Returns the difference."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    difference = (ours - theirs).abs().max().item()
    largest = theirs.abs().max().item()
    bound = 1e-10 if ours.dtype == torch.float64 else 1e-5 * largest
    assert difference <= bound, f"{difference:.3g} apart, values up to {largest:.3g}"
    return difference
