from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skillnet_cli.api import DamagedItem
from skillnet_image.pixels import decode
from skillnet_video.config import VideoConfig
from skillnet_video.embedder import TubeEmbedder
from skillnet_video.preview import SHOWN, SIDE, contact_sheet
from skillnet_video.reader import VideoReader, choose
from tests.plugins.video.films import film, numbered


@pytest.fixture
def reader() -> VideoReader:
    return VideoReader(VideoConfig(resolution=16, tube=(3, 8, 8)))


def numbers(frames: torch.Tensor) -> list[int]:
    """The frames' numbers in the clip."""
    return [round(float(frame.float().mean()) / 2) for frame in frames]


def near(seen: list[int], expected: list[int]) -> bool:
    """Equal up to the level of grey that the codec may lose."""
    return len(seen) == len(expected) and all(abs(one - other) <= 1 for one, other in zip(seen, expected, strict=True))


def test_evaluation_spreads_its_frames_over_ten_seconds(reader: VideoReader, long_clip: bytes) -> None:
    frames = reader.read(long_clip)
    assert frames.shape == (6, 3, 16, 16) and frames.dtype == torch.uint8
    kept = [int(place / 3 * 10 + 1e-6) for place in range(30)]
    assert near(numbers(frames), [kept[place] for place in (2, 7, 12, 17, 22, 27)])
    assert torch.equal(frames, reader.read(long_clip))


def test_training_draws_its_frames_from_the_generator(reader: VideoReader, long_clip: bytes) -> None:
    drawn = [reader.read(long_clip, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert numbers(drawn[0]) == sorted(numbers(drawn[0]))
    assert max(max(numbers(reader.read(long_clip, np.random.default_rng(seed)))) for seed in range(20)) <= 100


def test_every_kept_frame_is_drawn_sometimes() -> None:
    drawn = [place for seed in range(200) for place in choose(30, 6, np.random.default_rng(seed))]
    assert set(drawn) == set(range(30))


@given(kept=st.integers(1, 60), wanted=st.integers(1, 12), seed=st.integers(0, 5))
def test_choices_are_in_order_and_distinct(kept: int, wanted: int, seed: int) -> None:
    for rng in (None, np.random.default_rng(seed)):
        places = choose(kept, wanted, rng)
        assert len(places) == min(kept, wanted)
        assert places == sorted(set(places))
        assert set(places) <= set(range(kept))


@given(kept=st.integers(2, 60), wanted=st.integers(1, 12))
def test_even_choices_leave_even_gaps(kept: int, wanted: int) -> None:
    places = choose(kept, wanted, None)
    gaps = np.diff(places)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
    assert abs(places[0] - (kept - 1 - places[-1])) <= 1


@pytest.mark.parametrize(
    "count, keys, expected",
    [
        (1, {}, [0] * 6),
        (10, {}, [0, 3, 6, 6, 6, 6]),
        (10, {"fps": 2, "frames": 4}, [0, 5, 5, 5, 5, 5]),  # 4 frames fill up two whole tubes of 3
        (10, {"frames": 3}, [0, 3, 6]),
    ],
)
def test_short_clips_repeat_their_last_frame(count: int, keys: dict, expected: list[int]) -> None:
    reader = VideoReader(VideoConfig(resolution=16, tube=(3, 8, 8), **keys))
    assert near(numbers(reader.read(film(numbered(count), rate=10))), expected)


def test_long_files_are_read_in_windows(reader: VideoReader, long_clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "long.mp4").write_bytes(long_clip)
    first, second = reader.split(tmp_path / "long.mp4")
    assert (first.start, first.end, second.start, second.end) == pytest.approx((0, 10, 10, 12))
    assert torch.equal(first.features, reader.read(long_clip))
    assert near(numbers(second.features), [100, 103, 106, 110, 113, 116])


def test_length_is_what_the_embedder_makes(reader: VideoReader, short_clip: bytes) -> None:
    frames = reader.read(short_clip)
    _, lengths = TubeEmbedder(reader.config, 8)(reader.collate([frames, frames]))
    assert lengths.tolist() == [reader.length(frames)] * 2 == [9, 9]


def test_damage_is_named_as_such(reader: VideoReader) -> None:
    for data in (b"", b"nothing of the kind"):
        with pytest.raises(DamagedItem):
            reader.read(data)


@pytest.mark.parametrize("keys", [{"resolution": 100}, {"tube": (0, 16, 16)}, {"fps": 0}, {"frames": 0}, {"frame": 6}])
def test_configurations_that_cannot_be(keys: dict) -> None:
    with pytest.raises(ValidationError):
        VideoConfig(**keys)


def test_the_defaults_are_the_papers() -> None:
    config = VideoConfig()
    assert (config.resolution, config.tube, config.frames) == (224, (3, 16, 16), 6)
    assert (config.fps, config.max_seconds) == (3, 10)
    assert (config.grid, config.kept) == ((2, 14, 14), 30)


def test_a_contact_sheet_shows_frames_in_order(long_clip: bytes) -> None:
    found = re.fullmatch(r'<img alt="" src="data:image/jpeg;base64,([A-Za-z0-9+/=]+)">', contact_sheet(long_clip))
    assert found
    sheet = decode(b64decode(found[1]))
    assert sheet.shape == (3, SIDE, SHOWN * SIDE)
    shades = [float(part.float().mean()) for part in sheet.split(SIDE, dim=2)]
    assert shades == sorted(shades) and shades[-1] - shades[0] > 100
