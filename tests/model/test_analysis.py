"""FLOPs by part against the formulas of products and convolutions, and against a real pass that torch counts."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from skillnet_cli.model.analysis import Flops, summarise, without_storage
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import load_registry
from skillnet_sound.frames import KERNELS, frame_count
from tests.integers import toy_registry
from tests.model.variants import VARIANTS, variant
from tests.reference import CLIP_LIKE, skillnet

SIZES = {"layers": 2, "hidden": 32, "heads": 4, "ffn": 48, "dropout": 0.0}
EMBEDDERS = {
    "text": {"vocab_size": 50, "max_length": 20},
    "code": {"vocab_size": 60, "max_length": 30},
    "sound": {"channels": 8, "max_seconds": 0.5},
    "image": {"resolution": 32, "patch": 8},
    "video": {"resolution": 32, "tube": (3, 8, 8), "frames": 6},
}
FRAMES = frame_count(8_000)
TOKENS = {"text": 20, "code": 30, "sound": 1 + FRAMES, "image": 17, "video": 33}


@pytest.fixture(scope="module")
def model() -> SkillNet:
    return skillnet(SIZES | CLIP_LIKE, **EMBEDDERS)


def embedder_flops(skill: str) -> int:
    """Two a multiplication: pixels of a patch or tube, taps of the convolutions, each by the outputs."""
    if skill == "sound":
        # The convolutions run over whole hops of 320 samples, so a last, unfinished frame is computed and dropped.
        rows, total, width = 8_000, 0, 1
        for kernel, stride in zip(KERNELS, (5, 2, 2, 2, 2, 2, 2), strict=True):
            rows //= stride
            total += 2 * rows * kernel * width * 8
            width = 8
        return total + 2 * FRAMES * 8 * 32
    pixels = {"image": 16 * 3 * 8 * 8, "video": 32 * 3 * 3 * 8 * 8}
    return 2 * pixels.get(skill, 0) * 32


@pytest.mark.parametrize("skills", [(skill,) for skill in EMBEDDERS])
def test_flops_are_the_formulas(model: SkillNet, skills: tuple[str]) -> None:
    (skill,), tokens, hidden = skills, TOKENS[skills[0]], 32
    attention = 2 * 2 * tokens * tokens * hidden  # scores and weighted values
    shared = 2 * (2 * tokens * (hidden * hidden + 2 * hidden * 48) + attention)
    expected = {f"embedder:{skill}": embedder_flops(skill), "shared": shared}
    expected[f"skill:{skill}"] = 2 * 2 * tokens * hidden * 3 * hidden
    assert Flops(model).of_tower(skills, model.tower) == expected


def test_flops_are_those_of_a_real_pass(model: SkillNet) -> None:
    towers = [("text",), ("text", "code"), ("sound",), ("image",), ("video",)]
    # torch's counter passes over the CPU's fused attention, not over the two products that it stands for.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for skills in towers:
            model.tower(skills, [model.embedders[skill].longest() for skill in skills])
    flops = Flops(model)
    counted = sum((flops.of_tower(skills, model.tower) or Counter() for skills in towers), Counter())
    assert sum(counted.values()) == counter.get_total_flops() > 0
    assert counted["skill:text"] == 2 * 2 * (20 + 19) * 32 * 96  # beside code, the text's [CLS] gives way


def test_a_summary_adds_up(model: SkillNet) -> None:
    facts = summarise(without_storage(model.config, {}, load_registry()), {})
    assert facts["parameters"]["total"] == sum(each.numel() for each in model.parameters())
    every = Flops(model).of_all()
    assert facts["flops"]["parts"] == every and facts["flops"]["total"] == sum((every or {}).values())


@pytest.mark.parametrize("name", VARIANTS)
def test_flops_of_every_variant_are_those_of_a_real_pass(name: str) -> None:
    """Whichever parts they fall to; a real pass of ``match`` is one of each of its two towers."""
    model = variant(**VARIANTS[name]).eval()
    towers = model.task("match").towers
    batches = [[tower.embedders[skill].longest() for skill in skills]
               for tower, skills in zip(model.towers_of("match"), towers, strict=True)]  # fmt: skip
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.predict("match", batches)
    counted = Flops(model).of_task("match")
    assert counted is not None and sum(counted.values()) == counter.get_total_flops() > 0
    assert set(counted) <= set(model.activated_parts("match"))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_summed_up_by_part(name: str) -> None:
    model = variant(**VARIANTS[name])
    unknown = {"spell": "its labels are not known"}
    facts = summarise(without_storage(model.config, unknown, toy_registry()), unknown)
    counted = sum(each.numel() for key, each in model.named_parameters() if "heads.spell" not in key)
    assert facts["parameters"]["total"] == counted
    assert all(0 < each["activated"] <= counted for each in facts["tasks"].values())
