from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from skillnet_sound.config import SoundConfig
from skillnet_sound.reader import SoundReader

Samples = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture
def config() -> SoundConfig:
    """The paper's shape, narrow enough for tests."""
    return SoundConfig(channels=16)


@pytest.fixture
def reader(config: SoundConfig) -> SoundReader:
    return SoundReader(config)


@pytest.fixture
def tone() -> Callable[..., Samples]:
    """A tone with a little noise, between -0.6 and 0.6, as (samples,) or (samples, channels)."""

    def make(seconds: float = 1.0, rate: int = 16_000, hertz: float = 440.0, channels: int = 1) -> Samples:
        times = np.arange(round(seconds * rate)) / rate
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, (len(times), channels))
        samples = (0.5 * np.sin(2 * np.pi * hertz * times)[:, None] + noise).astype(np.float32)
        return samples[:, 0] if channels == 1 else samples

    return make


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """Samples to a file's bytes with soundfile: (samples, rate, format, subtype)."""

    def make(samples: Samples, rate: int = 16_000, format: str = "WAV", subtype: str | None = None) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, samples, rate, subtype, format=format)
        return file.getvalue()

    return make


@pytest.fixture
def mux() -> Callable[..., bytes]:
    """Samples to a file's bytes with FFmpeg, for formats that soundfile cannot read."""

    def make(samples: Samples, rate: int, container: str, codec: str) -> bytes:
        file = io.BytesIO()
        with av.open(file, "w", format=container) as output:
            stream = output.add_stream(codec, rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            output.mux([*stream.encode(frame), *stream.encode(None)])
        return file.getvalue()

    return make
