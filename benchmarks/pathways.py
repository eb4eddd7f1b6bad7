"""Every pathway of the paper's size against transformers' module of the same size, forward passes and updates.

    python benchmarks/pathways.py [--quick] [--threads N] [--json FILE]

Both run in turn in one process, in float32 on the CPU, on random weights. Printed are medians of seconds by the
processor's clock, and the median of the ratios, peer's time over ours, with its quartiles: above 1 ours is faster.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    BertConfig,
    BertModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    VivitConfig,
    VivitModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from skillnet_cli.model.build import config_of, embedder_config
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry

SIZES: dict[str, Any] = {
    "layers": 12, "hidden": 768, "heads": 12, "ffn": 3072, "norm": "pre", "activation": "quick_gelu", "dropout": 0.0,
}  # fmt: skip
THEIRS: dict[str, Any] = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "attn_implementation": "sdpa",
}  # fmt: skip
NO_DROPOUT: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
VOCABULARY = 21_128
SECONDS = 20
ROUNDS, QUICK_ROUNDS = 7, 3


@dataclass(frozen=True)
class Pathway:
    """What is compared: one skill of ours, a module of theirs, and both sides' inputs.

    Attributes:
        name: with what is read.
        target: the ratio to be reached by an update.
        skill: ours.
        embedder: its settings in a recipe.
        peer: makes their module.
        batch: makes our batch, and the keywords of their call.
    """

    name: str
    target: float
    skill: str
    embedder: dict[str, Any]
    peer: Callable[[], nn.Module]
    batch: Callable[[], tuple[dict[str, Tensor], dict[str, Tensor]]]


@dataclass(frozen=True)
class Comparison:
    """Seconds of both, and how often theirs are ours: the median and its quartiles."""

    pathway: str
    work: str
    ours: float
    peer: float
    ratio: float
    spread: tuple[float, float]
    target: float | None


def texts(lengths: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Texts in the order of a file: packed for us, padded to the longest for BERT."""
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(5, VOCABULARY, (length,), generator=generator) for length in lengths]
    sizes = torch.tensor(lengths)
    mask = torch.arange(max(lengths)) < sizes[:, None]
    ours = {"ids": torch.cat(ids), "segments": torch.zeros(sum(lengths), dtype=torch.int64), "lengths": sizes}
    return ours, {"input_ids": pad_sequence(ids, batch_first=True), "attention_mask": mask.long()}


def pictures(count: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Pictures of 224 × 224."""
    pixels = torch.randint(0, 256, (count, 3, 224, 224), dtype=torch.uint8)
    return {"pixels": pixels}, {"pixel_values": pixels.float() / 127.5 - 1}


def recordings(count: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Recordings of 20 seconds."""
    samples = torch.randn(count, SECONDS * 16_000)
    return {"samples": samples, "lengths": torch.tensor([samples.shape[1]] * count)}, {"input_values": samples}


def clips(count: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Clips of six frames of 224 × 224, in tubes of three."""
    frames = torch.randint(0, 256, (count, 6, 3, 224, 224), dtype=torch.uint8)
    return {"frames": frames}, {"pixel_values": frames.float() / 127.5 - 1}


def bert(longest: int) -> nn.Module:
    """BERT without its pooler."""
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=longest, **NO_DROPOUT, **THEIRS)
    return BertModel(config, add_pooling_layer=False)


def wav2vec() -> nn.Module:
    """wav2vec 2.0 base without masks and dropped layers."""
    off: dict[str, Any] = dict.fromkeys(
        ("activation_dropout", "hidden_dropout", "attention_dropout", "feat_proj_dropout"), 0.0
    )
    return Wav2Vec2Model(Wav2Vec2Config(apply_spec_augment=False, layerdrop=0.0, **off, **THEIRS))


def pathways(lengths: dict[str, list[int]]) -> list[Pathway]:
    """All comparisons, smallest first."""
    text = {"vocab_size": VOCABULARY, "max_length": 512}
    vivit = VivitConfig(image_size=224, num_frames=6, tubelet_size=[3, 16, 16], **NO_DROPOUT, **THEIRS)
    return [
        Pathway("16 texts of 64 tokens", 1.0, "text", text, lambda: bert(512), lambda: texts([64] * 16)),
        Pathway("48 titles", 2.1, "text", text, lambda: bert(512), lambda: texts(lengths["titles"])),
        Pathway("12 functions", 2.5, "text", text, lambda: bert(512), lambda: texts(lengths["functions"])),
        Pathway(
            "4 pictures", 1.0, "image", {}, lambda: CLIPVisionModel(CLIPVisionConfig(patch_size=16, **THEIRS)),
            lambda: pictures(4),
        ),
        Pathway("20 s of sound", 1.25, "sound", {}, wav2vec, lambda: recordings(1)),
        Pathway(
            "2 clips", 1.4, "video", {"frames": 6}, lambda: VivitModel(vivit, add_pooling_layer=False),
            lambda: clips(2),
        ),
    ]  # fmt: skip


def compared(pathway: Pathway, rounds: int) -> Iterator[Comparison]:
    """A forward pass and an update of both, in turn."""
    registry = load_registry()
    embedders = {pathway.skill: embedder_config(pathway.skill, pathway.embedder, registry)}
    ours = SkillNet(config_of(SIZES, embedders, (), registry), registry)
    peer = pathway.peer()
    batch, keywords = pathway.batch()

    def encode() -> Tensor:
        return ours.tower((pathway.skill,), (batch,)).tokens

    def theirs() -> Tensor:
        states: Tensor = peer(**keywords).last_hidden_state
        return states

    with torch.no_grad():
        yield measured(pathway, "forward", encode, theirs, rounds)
    yield measured(pathway, "update", update_of(ours.train(), encode), update_of(peer.train(), theirs), rounds)


def update_of(module: nn.Module, forward: Callable[[], Tensor]) -> Callable[[], object]:
    """A forward and a backward pass, and a step of AdamW, fused."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6, fused=True)

    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        forward().square().mean().backward()
        optimizer.step()

    return update


def measured(
    pathway: Pathway, work: str, ours: Callable[[], object], peer: Callable[[], object], rounds: int
) -> Comparison:
    """Of so many rounds after one to warm up."""
    laps = [(seconds(ours), seconds(peer)) for _ in range(rounds + 1)][1:]
    ratios = [theirs / own for own, theirs in laps]
    quartiles = statistics.quantiles(ratios, n=4) if rounds > 1 else [ratios[0]] * 3
    own, theirs = (statistics.median(times) for times in zip(*laps, strict=True))
    target = pathway.target if work == "update" else None
    return Comparison(pathway.name, work, own, theirs, statistics.median(ratios), (quartiles[0], quartiles[2]), target)


def seconds(work: Callable[[], object]) -> float:
    """By the processor's clock, which other programs on the machine disturb less, a thread."""
    begin = time.process_time()
    work()
    return (time.process_time() - begin) / torch.get_num_threads()


def lengths_of() -> dict[str, list[int]]:
    """The tokens of 48 titles, 22 on average as those of TNEWS have, and of 12 functions."""
    drawn = torch.Generator().manual_seed(0)
    titles = (22 + 7 * torch.randn(48, generator=drawn)).clamp(6, 50).int().tolist()
    functions = (torch.randn(12, generator=drawn).exp() * 110).clamp(20, 448).int().tolist()
    return {"titles": titles, "functions": functions}


def main() -> None:
    """Print a line for each comparison as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    machine = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": options.threads,
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{'':24} {'':8} {'ours s':>8} {'peer s':>8} {'peer/ours':>10} {'quartiles':>12} {'target':>7}")
    found: list[Comparison] = []
    for pathway in pathways(lengths_of()):
        for each in compared(pathway, QUICK_ROUNDS if options.quick else ROUNDS):
            found.append(each)
            low, high = each.spread
            wanted = "" if each.target is None else f"{each.target:.2f}"
            line = f"{each.pathway:24} {each.work:8} {each.ours:8.3f} {each.peer:8.3f} {each.ratio:10.2f}"
            print(f"{line} {low:6.2f}-{high:4.2f} {wanted:>7}", flush=True)
        gc.collect()
    if options.json:
        document = {"machine": machine, "comparisons": [asdict(each) for each in found]}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
