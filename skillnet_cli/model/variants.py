"""What a configuration may choose instead of the encoder's defaults."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from skillnet_cli.model.attention import AttentionPlan
from skillnet_cli.model.encoder import Block, Routes


class PostNormBlock(Block):
    """One layer, layer norms behind the residual sums (as in BERT)."""

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> Float[Tensor, "T hidden"]:
        tokens = self.attention_norm(tokens + self.dropout(self.attention(tokens, plan, routes)))
        return self.ffn_norm(tokens + self.dropout(self.feed_forward(tokens)))


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's approximation of gelu, x · sigmoid(1.702 x), by way of silu: one fused operation and two products."""
    return F.silu(1.702 * x) / 1.702


BLOCKS = {"pre": Block, "post": PostNormBlock}
ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": F.gelu}
