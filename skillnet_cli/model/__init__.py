"""The routed Transformer. Importing this package makes transformers' Auto classes know SkillNet."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel

from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.skillnet import SkillNet

AutoConfig.register("skillnet", SkillNetConfig)
AutoModel.register(SkillNetConfig, SkillNet)

__all__ = ["SkillNet", "SkillNetConfig"]
