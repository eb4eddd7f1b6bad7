"""The example plugin: installed from its folder, its parts hold what docs/plugins.md promises of any plugin."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.api import DamagedItem, Modality, Reader
from skillnet_cli.plugins import load_registry, resolve


@pytest.fixture
def modality(series_site: Path, monkeypatch: pytest.MonkeyPatch) -> Modality:
    """The modality as the registry finds it."""
    monkeypatch.syspath_prepend(series_site)
    monkeypatch.setenv("SKILLNET_PLUGINS", "series")
    return load_registry.__wrapped__().modality("series")


@pytest.fixture
def reader(modality: Modality) -> Reader:
    return resolve(modality.reader)(resolve(modality.config)(window=4, longest=8))


def numbers(*values: float) -> bytes:
    return "\n".join(map(str, values)).encode()


def test_it_is_found_by_a_fresh_program(series_site: Path) -> None:
    code = "from skillnet_cli.plugins import load_registry as r; print(r().modalities['series'].plugin.distribution)"
    environment = os.environ | {"PYTHONPATH": str(series_site)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "skillnet-series\n"


def test_reading_scales_and_fills_the_last_window(reader: Reader) -> None:
    windows = reader.read(numbers(1, 2, 3, 4, 5, 6))
    expected = (np.arange(1, 7) - 3.5) / np.std(np.arange(1, 7))
    assert windows.shape == (2, 4)
    np.testing.assert_allclose(windows.flatten()[:6], expected, rtol=1e-5)
    assert windows.flatten()[6:].tolist() == [0, 0]


@pytest.mark.parametrize("content", [b"", b"1\nx\n", b"1\nnan\n", b"\xff\xfe"])
def test_what_holds_no_readings_is_damaged(content: bytes, reader: Reader) -> None:
    with pytest.raises(DamagedItem):
        reader.read(content)


def test_long_files_are_read_to_their_end_in_pieces(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_bytes(numbers(*range(75)))
    windows = list(reader.split(path))
    assert [(window.start, window.end) for window in windows] == [(0, 32), (32, 64), (64, 75)]
    assert [len(window.features) for window in windows] == [8, 8, 3]
    assert len(reader.read(path)) == 8


def test_an_item_does_not_depend_on_its_batch_mates(modality: Modality, reader: Reader) -> None:
    torch.manual_seed(0)
    embedder = resolve(modality.embedder)(reader.config, 16)
    items = [reader.read(numbers(*range(length))) for length in (9, 31, 2)]
    tokens, lengths = embedder(reader.collate(items))
    assert lengths.tolist() == [reader.length(item) for item in items] == [4, 9, 2]
    for item, together in zip(items, tokens.split(lengths.tolist()), strict=True):
        alone, _ = embedder(reader.collate([item]))
        torch.testing.assert_close(together, alone)


def test_augmentation_is_its_generators_alone(modality: Modality, reader: Reader) -> None:
    augment = resolve(modality.augment or "")
    windows = reader.read(numbers(1, 2, 3, 4))
    once, again = (augment(windows, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(once, again) and not torch.equal(once, windows)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
@pytest.mark.usefixtures("modality")
def test_a_sparkline_stays_inside_its_picture(readings: list[float]) -> None:
    preview = importlib.import_module("skillnet_series.preview")
    svg = preview.sparkline(numbers(*readings))
    points = svg.split('points="')[1].split('"')[0].split()
    assert len(points) == len(readings)
    for x, y in (map(float, point.split(",")) for point in points):
        assert 0 <= x <= preview.WIDTH and 0 <= y <= preview.HEIGHT
