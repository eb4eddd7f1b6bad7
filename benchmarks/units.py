"""How many times faster than real time one core labels speech with units, and what the batches are worth.

    python benchmarks/units.py [--json]

Waveforms in, units out: MFCC with their differences, the nearest of 100 centres; with decoding, from WAV files.
CPU time of one thread, median of the rounds; the ways take turns.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import soundfile
import torch
from torch import Tensor

from skillnet_sound.config import SoundConfig
from skillnet_sound.frames import SAMPLE_RATE
from skillnet_sound.reader import SoundReader
from skillnet_sound.units import CLUSTERS, MfccFeatures, label

ROUNDS = 5
CLIPS = 64
SECONDS = (2.0, 8.0)
"""Between the shortest and the longest clip: AISHELL-1's are 1 to 14 seconds, 4.5 in the mean."""

LEAST = 300


def recordings() -> list[bytes]:
    """Noise as WAV files of different lengths."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(CLIPS):
        file, length = io.BytesIO(), int(rng.uniform(*SECONDS) * SAMPLE_RATE)
        soundfile.write(file, rng.uniform(-0.3, 0.3, length), SAMPLE_RATE, format="WAV")
        files.append(file.getvalue())
    return files


def measure() -> dict[str, float]:
    """Seconds of sound for each second of CPU, for each way."""
    files, reader, mfcc = recordings(), SoundReader(SoundConfig()), MfccFeatures()
    clips: list[Tensor] = [reader.read(file) for file in files]
    centres = torch.randn(CLUSTERS, 39, generator=torch.Generator().manual_seed(0)) * 10
    ways: dict[str, Callable[[], object]] = {
        "units": lambda: label(clips, mfcc, centres),
        "units, with decoding": lambda: label([reader.read(file) for file in files], mfcc, centres),
        "units, clip by clip": lambda: [label([clip], mfcc, centres) for clip in clips],
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for round in range(ROUNDS + 1):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            if round:  # the first is for warming up
                spent[name].append(time.process_time() - begun)
    total = sum(map(len, clips)) / SAMPLE_RATE
    return {name: total / statistics.median(each) for name, each in spent.items()}


def main() -> int:
    """Print the figures; fails where labels are slower than promised."""
    torch.set_num_threads(1)
    found = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps({name: round(value, 1) for name, value in found.items()}))
    else:
        for name, value in found.items():
            print(f"{name:22} {value:6.0f} × real time")
    return 0 if found["units, with decoding"] >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
