"""Pretrained toys on disk, for the toy plugin to start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor


def toy_tensors(hidden: int = 16) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = {"table": (10, hidden), **dict.fromkeys(("q", "k", "v", "out"), (hidden, hidden)), "head": (3,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def save_toy(folder: Path, tensors: dict[str, Tensor] | None = None, **config: Any) -> Path:
    """A folder with ``config.json`` and safetensors."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "toy", "hidden": 16} | config))
    save_file(toy_tensors() if tensors is None else tensors, folder / "model.safetensors")
    return folder
