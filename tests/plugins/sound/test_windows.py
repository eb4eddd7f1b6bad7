from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.api import DamagedItem
from skillnet_sound.config import SoundConfig
from skillnet_sound.level import normalise
from skillnet_sound.reader import SoundReader
from skillnet_sound.windows import MARGIN_SECONDS, PAUSE_SECONDS, QUIET_SECONDS, apart, quietest, windows

RATE = 100  # windows of 2 seconds, small enough to try many


def in_parts(samples: Any, sizes: list[int]) -> Iterator[Any]:
    start = 0
    for size in sizes:
        yield samples[start : start + size]
        start += size
    yield samples[start:]


@given(
    length=st.integers(0, 1_500), sizes=st.lists(st.integers(0, 400), max_size=8), seed=st.integers(0, 9),
)  # fmt: skip
def test_windows_cover_the_samples_exactly_and_do_not_depend_on_the_parts(
    length: int, sizes: list[int], seed: int
) -> None:
    samples = np.random.default_rng(seed).standard_normal(length).astype(np.float32)
    cut = list(windows(in_parts(samples, sizes), longest=200, shortest=40, rate=RATE))
    np.testing.assert_array_equal(np.concatenate([*cut, samples[:0]]), samples)
    assert all(len(window) <= 200 for window in cut)
    assert all(len(window) >= 40 for window in cut) or length < 40
    whole = list(windows(iter([samples]), longest=200, shortest=40, rate=RATE))
    assert [len(window) for window in cut] == [len(window) for window in whole]


def test_cuts_fall_in_the_pauses() -> None:
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(900).astype(np.float32)
    pauses = [175, 340, 520, 700]
    for pause in pauses:
        samples[pause - 10 : pause + 10] *= 0.001
    cuts = np.cumsum([len(window) for window in windows(iter([samples]), longest=200, shortest=40, rate=RATE)])
    assert all(abs(cut - pause) <= 10 for cut, pause in zip(cuts, pauses, strict=False))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.integers(1, 20), st.data())
def test_quietest_against_brute_force(values: list[int], width: int, data: Any) -> None:
    samples = np.array(values, dtype=np.float32)
    start = data.draw(st.integers(0, len(values) - 1))
    width = min(width, len(values) - start)
    places = range(start, len(values) - width + 1)
    best = min(places, key=lambda place: (sum(value**2 for value in values[place : place + width]), -place))
    assert quietest(samples, start, width) == best + width // 2


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 25)), min_size=1, max_size=8), st.integers(0, 9))
def test_long_silences_are_apart(runs: list[tuple[bool, int]], rest: int) -> None:
    """Against a search sample by sample: a sound reaches a margin beyond itself, over pauses of less than a second."""
    tenths = [is_loud for is_loud, count in runs for _ in range(count)]
    samples = np.repeat(np.array(tenths, dtype=np.float32), 10) * np.tile([1, -1], 5 * len(tenths)).astype(np.float32)
    samples = np.concatenate([samples, np.zeros(rest * tenths[-1], dtype=np.float32)])
    places = np.flatnonzero(samples)
    margin, pause = int(MARGIN_SECONDS * RATE), int(PAUSE_SECONDS * RATE)
    expected = np.zeros(len(samples), dtype=bool)
    end = len(samples) - rest * tenths[-1]
    for one, other in pairwise([-1, *places.tolist(), end]):
        if other - one - 1 < pause:
            expected[max(one, 0) : other + 1] = True
    for place in places:
        expected[max(0, place - margin) : place + margin + 1] = True
    expected[end:] |= bool(tenths[-1])
    expected &= bool(len(places))
    pieces = list(apart(samples, 1, RATE))
    np.testing.assert_array_equal(np.concatenate([piece for piece, _ in pieces]), samples)
    heard = np.concatenate([np.full(len(piece), not silent) for piece, silent in pieces])
    np.testing.assert_array_equal(heard, expected)
    assert all(one[1] != other[1] for one, other in pairwise(pieces)), "neighbours are of the same kind"


def test_split_is_the_whole_file(tmp_path: Path, tone: Callable[..., Any]) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, tone(47.3, 22_050), 22_050)
    reader = SoundReader(SoundConfig(channels=8))
    parts = list(reader.split(path))
    assert parts[0].start == 0 and parts[-1].end == pytest.approx(47.3, abs=0.01)
    assert all(one.end == other.start for one, other in pairwise(parts))
    assert all(0 < part.end - part.start <= 20 for part in parts)
    assert all(round((part.end - part.start) * 16_000) == len(part.features) for part in parts)
    whole = reader.decode(path)
    first = torch.from_numpy(normalise(whole[: round(parts[0].end * 16_000)]))
    assert torch.equal(parts[0].features, first)  # a window is at the level of an item


def test_a_short_file_is_one_window(tmp_path: Path, tone: Callable[..., Any]) -> None:
    path = tmp_path / "short.flac"
    soundfile.write(path, tone(1.0), 16_000)
    reader = SoundReader(SoundConfig(channels=8))
    (only,) = reader.split(path)
    assert (only.start, only.end) == (0, 1)
    assert torch.equal(only.features, reader.read(path))


@pytest.mark.parametrize(("samples", "message"), [(0, "no sound"), (200, "too short")])
def test_split_of_too_little(tmp_path: Path, samples: int, message: str) -> None:
    path = tmp_path / "little.wav"
    soundfile.write(path, np.zeros(samples), 16_000)
    with pytest.raises(DamagedItem, match=message):
        list(SoundReader(SoundConfig()).split(path))


def test_a_long_file_needs_no_more_memory_than_a_few_windows(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        for _ in range(60):
            file.write(np.random.default_rng(0).uniform(-0.5, 0.5, 10 * 16_000))
    window = 20 * 16_000 * 4
    tracemalloc.start()
    seconds = sum(part.end - part.start for part in SoundReader(SoundConfig()).split(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds == pytest.approx(600)
    assert peak < 12 * window  # the file is 30 windows; a search in float64 takes a few
    assert QUIET_SECONDS < 1
