"""Where the layer norms stand: ``norm = "post"``."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from skillnet_cli.model.attention import AttentionPlan
from skillnet_cli.model.encoder import Block, Routes


class PostNormBlock(Block):
    """One layer, layer norms behind the residual sums (as in BERT)."""

    def forward(
        self, tokens: Float[Tensor, "T hidden"], plan: AttentionPlan, routes: Routes
    ) -> Float[Tensor, "T hidden"]:
        tokens = self.attention_norm(tokens + self.dropout(self.attention(tokens, plan, routes)))
        return self.ffn_norm(tokens + self.dropout(self.feed_forward(tokens)))
