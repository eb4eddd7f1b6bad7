"""The keys of ``[model.embedders.code]``."""

from __future__ import annotations

from pydantic import Field

from skillnet_text.config import TokenConfig


class CodeConfig(TokenConfig):
    """As for every modality of tokens; a code has what a text of 64 tokens leaves of 512 (paper, appendix)."""

    max_length: int = Field(default=512 - 64, ge=4, le=65_536)
