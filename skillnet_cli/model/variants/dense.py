"""A standard Transformer's attention: ``routing = "dense"``; the encoders of ``moe`` and ``separate`` have it too."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from skillnet_cli.model.encoder import RoutedAttention, Routes, SkillProjection


class DenseAttention(RoutedAttention):
    """Multi-head attention (eq. 1 to 4) with one projection that is always on, whatever skill a token is of."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__(hidden, heads, skills=())
        self.qkv = SkillProjection(hidden)

    def project(self, tokens: Float[Tensor, "T hidden"], routes: Routes) -> Float[Tensor, "T 3*hidden"]:
        """Every token's query, key and value."""
        return self.qkv(tokens)
