"""Counts the parameters of Table 3's three systems, built without weights from the architectures that §5.2 names.

Run: python benchmarks/table3.py. Prints the three rows beside the paper's, every part of them, and for each difference
where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    EfficientNetConfig,
    EfficientNetForImageClassification,
    GPT2Config,
    GPT2Model,
)
from transformers.models.bert.modeling_bert import BertEncoder
from transformers.utils import logging

from skillnet_cli.engine.estimate.forecast import sketch_model
from skillnet_cli.model.parts import parameters_by_part
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry
from skillnet_cli.recipe import load_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "paper.toml"
ROUNDING = 0.6
"""Millions that the paper's rounded figures may be away from exact ones."""
CHINESE = 21_128
"""Entries of the vocabulary of Chinese BERT and RoBERTa."""


@dataclass(frozen=True)
class Part:
    """A part of a system: its parameters in millions as the paper has them (None: not said) and as built."""

    name: str
    paper: float | None
    built: float
    note: str = ""

    @property
    def differs(self) -> float:
        """How far it is from the paper's figure; 0 where there is none."""
        return 0.0 if self.paper is None else self.built - self.paper


@dataclass(frozen=True)
class System:
    """A row of Table 3, in millions, with its parts and other readings of parts that do not come out."""

    name: str
    paper: float
    parts: tuple[Part, ...]
    readings: tuple[Part, ...] = ()

    @property
    def built(self) -> float:
        """The sum of the parts as built."""
        return sum(part.built for part in self.parts)


def millions(make: Callable[[], nn.Module]) -> float:
    """The parameters of a module, built without memory, in millions."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in make().parameters()) / 1e6


def wenlan() -> System:
    """Wenlan 2.0: EfficientNet-B7 and four Transformer layers, RoBERTa-Large, two fully connected layers."""
    large: dict[str, Any] = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
    classes: dict[str, Any] = {"num_labels": 1_000}
    layers = BertConfig(num_hidden_layers=4, **large)
    roberta = BertConfig(num_hidden_layers=24, vocab_size=CHINESE, **large)
    return System(
        "Wenlan 2.0",
        445,
        (
            Part(
                "EfficientNet-B7",
                66,
                millions(lambda: EfficientNetForImageClassification(EfficientNetConfig(**classes))),
                "with its classifier of 1,000 classes, which retrieval does not use (63.8 M without)",
            ),
            Part("four Transformer layers", 50, millions(lambda: BertEncoder(layers)), "of RoBERTa-Large's width"),
            Part(
                "RoBERTa-Large",
                326,
                millions(lambda: BertModel(roberta)),
                f"Chinese, {CHINESE:,} entries, with its pooler (324.5 M without)",
            ),
            Part(
                "projection",
                3,
                millions(lambda: nn.Sequential(nn.Linear(1024, 1024), nn.Linear(1024, 2048))),
                "two layers; their widths are not in the paper: 1,024 to 1,024 to 2,048 makes 3",
            ),
        ),
    )


def wukong() -> System:
    """Wukong ViT-B: a Vision Transformer, a decoder-only Transformer for text, a linear projection."""
    decoder = "a decoder of 12 × 768"
    bert = BertConfig(vocab_size=30_522)
    narrow = CLIPTextConfig(vocab_size=CHINESE, max_position_embeddings=32)
    return System(
        "Wukong ViT-B",
        197,
        (
            Part(
                "ViT-B/16",
                86,
                millions(lambda: CLIPVisionModel(CLIPVisionConfig(patch_size=16))),
                "without a classifier",
            ),
            Part(
                "text Transformer",
                110,
                millions(lambda: GPT2Model(gpt(CHINESE))),
                f"{decoder} with the {CHINESE:,} entries of Chinese BERT: 85.1 M of layers, 16.2 M of table",
            ),
            Part("projection", 0.6, millions(lambda: nn.Linear(768, 768)), "768 to 768"),
        ),
        (
            Part("text Transformer", 110, millions(lambda: GPT2Model(gpt(32_000))), f"{decoder} with 32,000 entries"),
            Part(
                "text Transformer", 110, millions(lambda: BertModel(bert)), "BERT-base with its English 30,522 entries"
            ),
            Part("text Transformer", 110, millions(lambda: GPT2Model(gpt(50_257))), f"{decoder} with GPT-2's 50,257"),
            Part("text Transformer", 110, millions(lambda: CLIPTextModel(narrow)), f"CLIP's, 512 wide, {CHINESE:,}"),
        ),
    )


def gpt(vocabulary: int) -> GPT2Config:
    """A decoder-only Transformer of 12 layers, 768 wide, for Wukong's texts of at most 32 tokens."""
    return GPT2Config(vocab_size=vocabulary, n_positions=32, bos_token_id=0, eos_token_id=0)


def skillnet() -> System:
    """Our own model of the paper's recipe, as text-to-image search activates it."""
    registry = load_registry()
    config, _ = sketch_model(load_recipe(RECIPE, registry=registry), registry, ())
    with torch.device("meta"):
        model = SkillNet(config, registry)
    parameters = parameters_by_part(model)
    notes = {
        "shared": "12 layers of output projection, feed-forward network and norms",
        "skill:text": "12 layers of query, key and value projections",
        "skill:image": "the same again",
        "embedder:text": f"{CHINESE:,} word-pieces (our choice), 512 positions",
        "embedder:image": "patches of 16 × 16, 197 positions",
        "task:t2i": "the temperature",
    }
    return System(
        "SkillNet",
        124,
        tuple(Part(name, None, parameters[name] / 1e6, notes[name]) for name in model.activated_parts("t2i")),
    )


def main() -> None:
    """Print the rows, then every part."""
    logging.set_verbosity_error()
    systems = (wenlan(), wukong(), skillnet())
    print(f"{'Table 3, millions of parameters':<34}{'paper':>8}{'built':>9}{'differs':>9}")
    for system in systems:
        print(line(system.name, system.paper, system.built))
    for system in systems:
        print(f"\n{system.name}")
        for part in system.parts:
            print(line(f"  {part.name}", part.paper, part.built, part.note))
        explain(system)


def line(name: str, paper: float | None, built: float, note: str = "") -> str:
    """One row of figures."""
    said = f"{paper:>8g}" if paper is not None else f"{'-':>8}"
    differs = f"{built - paper:>+9.1f}" if paper is not None else f"{'-':>9}"
    return f"{name:<34}{said}{built:>9.1f}{differs}  {note}".rstrip()


def explain(system: System) -> None:
    """Say which part a row's difference comes from, and which readings of that part come to the paper's figure."""
    off = {part.name: part.differs for part in system.parts if abs(part.differs) > ROUNDING}
    for name, difference in off.items():
        print(
            f"  the row's {system.built - system.paper:+.1f}: {difference:+.1f} are the {name}'s, the rest is rounding"
        )
    if not off:
        print(f"  the row's {system.built - system.paper:+.1f} is rounding")
    for part in system.readings:
        row = system.built + part.built - next(each.built for each in system.parts if each.name == part.name)
        verdict = "comes to" if abs(part.differs) <= ROUNDING else "does not come to"
        print(f"  {part.note}: {part.built:.1f}, {verdict} the paper's {part.paper:g}; the row would be {row:.1f}")


if __name__ == "__main__":
    main()
