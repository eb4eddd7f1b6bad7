"""Clips made small: the frames that the reader would have kept, and nothing of what cannot be read."""

from __future__ import annotations

import io
from itertools import islice

import av
import numpy as np
import pytest

from skillnet_cli.api import DamagedItem
from skillnet_video.clips import frame_pixels, steady_frames
from skillnet_video.recoding import Recoding
from tests.plugins.video.films import film, numbered, only_sound


def levels(data: bytes, start: float | None = None, fps: float = 3.0) -> list[int]:
    """The grey of each frame that the reader keeps."""
    frames = islice(steady_frames(data, fps, start), 30)
    return [round(float(frame_pixels(frame).float().mean())) for frame in frames]


def test_the_reader_finds_the_same_frames(long_clip: bytes) -> None:
    small, suffix = Recoding().clip(long_clip)
    assert suffix == ".mp4" and len(small) < len(long_clip)
    assert len(levels(small)) == 30, "ten of twelve seconds, three frames each"
    assert np.abs(np.subtract(levels(small), levels(long_clip))).max() <= 2
    assert Recoding().clip(long_clip)[0] == small


@pytest.mark.parametrize("start", [0.0, 0.05, 3.0, 7.35, 11.6])
def test_a_clip_is_cut_out_of_a_video_where_it_begins(long_clip: bytes, start: float) -> None:
    """Frame i of the film stands from i/10 seconds on and has level 2·i."""
    seconds = min(10.0, 12.0 - start)
    times = [start + place / 3 for place in range(30) if place / 3 < seconds - 1e-6]
    expected = [2 * int(10 * time + 1e-6) for time in times]
    assert np.abs(np.subtract(levels(long_clip, start), expected)).max() <= 2
    assert np.abs(np.subtract(levels(Recoding().clip(long_clip, start)[0]), expected)).max() <= 2


def test_a_video_that_ends_before_the_clip_begins(long_clip: bytes) -> None:
    with pytest.raises(DamagedItem, match="ends before second 13, where the clip begins"):
        Recoding().clip(long_clip, 13.0)


@pytest.mark.parametrize(
    ("height", "width", "small"), [(120, 200, (106, 64)), (200, 120, (64, 106)), (33, 47, (48, 32)), (64, 64, (64, 64))]
)
def test_the_short_side_is_made_small_and_even(height: int, width: int, small: tuple[int, int]) -> None:
    clip = film((np.full((height - height % 2, width - width % 2, 3), 100, np.uint8) for _ in range(5)), rate=5)
    with av.open(io.BytesIO(Recoding(side=64).clip(clip)[0])) as made:
        found = (made.streams.video[0].width, made.streams.video[0].height)
    assert all(abs(a - b) <= 2 and a % 2 == 0 for a, b in zip(found, small, strict=True))


def test_a_moving_gif_and_a_still_are_clips(short_clip: bytes) -> None:
    gif = film(numbered(10), rate=10, format="gif", codec="gif")
    assert len(levels(Recoding().clip(gif)[0])) == 3
    assert len(levels(Recoding().clip(film(numbered(1), rate=10))[0])) == 1


@pytest.mark.parametrize("start", [None, 0.5])
def test_what_is_no_clip_is_damaged(long_clip: bytes, start: float | None) -> None:
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
    for data in (b"", b"not a clip", bytes(5000), only_sound(), playlist, long_clip[: len(long_clip) // 2]):
        with pytest.raises(DamagedItem):
            Recoding().clip(data, start)
