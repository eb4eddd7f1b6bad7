from __future__ import annotations

import base64
import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import skillnet_sound
from skillnet_cli.api import DamagedItem
from skillnet_cli.plugins import resolve
from skillnet_sound.augment import augment
from skillnet_sound.preview import player


def test_everything_it_names_is_there() -> None:
    (modality,) = skillnet_sound.skillnet_modalities()
    for name in ("config", "reader", "embedder", "augment", "preview"):
        assert callable(resolve(getattr(modality, name)))
    for entry in (*skillnet_sound.skillnet_datasets(), *skillnet_sound.skillnet_metrics()):
        assert callable(resolve(getattr(entry, "prepare", None) or entry.compute))


def test_the_top_module_is_light() -> None:
    heavy = "{'torch', 'numpy', 'soundfile', 'av', 'sklearn', 'jiwer', 'transformers'}"
    script = f"import sys, skillnet_sound; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_augment_is_the_generators_alone_and_keeps_the_length() -> None:
    samples = torch.rand(16_000) - 0.5
    one, again, other = (augment(samples, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.shape == samples.shape and one.dtype == torch.float32
    # A gain of at most 6 dB and noise of at most a tenth leave the wave recognisable.
    assert torch.nn.functional.cosine_similarity(one, samples, dim=0) > 0.99
    assert 0.45 < one.square().mean().sqrt() / samples.square().mean().sqrt() < 2.1


def test_augment_of_silence() -> None:
    assert torch.equal(augment(torch.zeros(500), np.random.default_rng(0)), torch.zeros(500))


def test_player_holds_the_sound(tone: Callable[..., Any], encode: Callable[..., bytes]) -> None:
    html = player(encode(tone(1.0, 44_100), 44_100, format="FLAC"))
    assert html.startswith("<audio controls") and html.endswith("</audio>")
    data = html.split("base64,")[1].split('"')[0]
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert rate == 16_000 and abs(len(samples) - 16_000) <= 2


def test_player_of_a_damaged_file() -> None:
    with pytest.raises(DamagedItem):
        player(b"nothing")
