"""Patches to vectors (paper §3.3, Image; ViT-B/16 of CLIP at its default sizes).

Shapes: B pictures, P patches of each, C = 3 channels, p pixels along a patch, D hidden.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from skillnet_image.config import ImageConfig


def init_parameter(*shape: int) -> nn.Parameter:
    """A new parameter drawn from a normal distribution with deviation 0.02, cut off at two deviations."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=0.02, a=-0.04, b=0.04))


def normalise(
    pixels: UInt8[Tensor, "items pieces 3 inner"], mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype
) -> Float[Tensor, "items pieces 3 inner"]:
    """Bytes to numbers of ``dtype`` around 0: (value / 255 − mean) / std for each of the three channels.

    No buffers hold ``mean`` and ``std``: a model built on the meta device and then loaded would have to refill them.
    """
    channels = torch.tensor([mean, std], dtype=dtype, device=pixels.device)[..., None]  # 2 3 1
    return (pixels.to(dtype) - 255 * channels[0]) / (255 * channels[1])


class PatchEmbedder(nn.Module):
    """Patches projected by a convolution without bias, class vector, learnt positions, norm.

    CLIP's ``class_embedding``, ``patch_embedding.weight``, ``position_embedding.weight`` and ``pre_layrnorm`` fit
    ``cls``, ``projection``, ``positions`` and ``norm`` as they are.
    """

    decayed = ("projection",)

    def __init__(self, config: ImageConfig, hidden: int) -> None:
        super().__init__()
        self.config = config
        self.cls = init_parameter(hidden)
        self.projection = init_parameter(hidden, 3, config.patch, config.patch)
        self.positions = init_parameter(1 + config.side**2, hidden)
        self.norm = nn.LayerNorm(hidden)

    def longest(self) -> dict[str, Tensor]:
        """One picture; all are of one size."""
        side = self.config.resolution
        return {"pixels": torch.zeros(1, 3, side, side, dtype=torch.uint8)}

    def forward(self, batch: dict[str, Tensor]) -> tuple[Float[Tensor, "tokens hidden"], Int[Tensor, " items"]]:
        """``batch["pixels"]``: uint8 (B, 3, side, side) -> packed tokens (B·(1+P), D), lengths (B,)."""
        patches = self.project(batch["pixels"])
        cls = self.cls.to(patches.dtype).expand(len(patches), 1, -1)
        tokens = self.norm(torch.cat([cls, patches], dim=1) + self.positions)
        lengths = torch.full((len(tokens),), tokens.shape[1], device=tokens.device)
        return tokens.flatten(0, 1), lengths

    def project(self, pixels: UInt8[Tensor, "items 3 side side"]) -> Float[Tensor, "items patches hidden"]:
        """The convolution, as one matrix product over cut-out patches: 2.5 times as fast on a CPU in bfloat16."""
        n, p = self.config.side, self.config.patch
        cut = pixels.unflatten(-1, (n, p)).unflatten(-3, (n, p))  # B C n p n p
        cut = cut.permute(0, 2, 4, 1, 3, 5).reshape(len(pixels), n * n, 3, p * p)  # B P C pp
        normal = normalise(cut, self.config.mean, self.config.std, self.projection.dtype).flatten(2)
        return F.linear(normal, self.projection.flatten(1))
