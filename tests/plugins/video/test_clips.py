"""Which frames are seen, against PyAV's own list of them, and everything that must not decode."""

from __future__ import annotations

import contextlib
import io
import struct
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skillnet_cli.api import DamagedItem, collect_remarks
from skillnet_video import clips
from skillnet_video.clips import frame_pixels, steady_frames
from tests.plugins.video.films import SIDE, film, numbered, only_sound, streamable


def levels(source: bytes | Path, fps: float) -> list[int]:
    """The numbers of the frames that were seen."""
    return [round(float(frame_pixels(frame).float().mean()) / 2) for frame in steady_frames(source, fps)]


def test_frames_are_those_on_the_screen(long_clip: bytes) -> None:
    seen = levels(long_clip, 3.0)
    assert len(seen) == 36
    for place, number in enumerate(seen):
        assert abs(number - int(place / 3 * 10 + 1e-6)) <= 1  # one level of grey is lost to the codec


@pytest.mark.parametrize("fps", [1, 2, 10, 20])
def test_the_rate_is_kept(short_clip: bytes, fps: int) -> None:
    assert len(levels(short_clip, float(fps))) == fps


def test_still_frames_come_again() -> None:
    seen = levels(film(numbered(3), rate=10, times=[0, 20, 25], format="matroska"), 2.0)
    assert seen[:6] == [0, 0, 0, 0, 1, 2]


def test_a_clip_that_starts_late_starts_at_its_first_frame() -> None:
    seen = levels(film(numbered(10), rate=10, times=range(50, 60), format="matroska"), 5.0)
    assert seen[0] == 0 and 4 <= len(seen) <= 6


CONTAINERS = {"mp4": "libx264", "webm": "libvpx", "matroska": "libx264", "avi": "mpeg4", "mov": "mjpeg", "gif": "gif"}


@pytest.mark.parametrize("format, codec", CONTAINERS.items())
def test_every_container_is_read(format: str, codec: str, tmp_path: Path) -> None:
    data = film((np.full((SIDE, SIDE, 3), 200, dtype=np.uint8) for _ in range(10)), 10, format, codec)
    (tmp_path / "片 段.bin").write_bytes(data)
    for source in (data, tmp_path / "片 段.bin"):
        frames = [frame_pixels(frame) for frame in steady_frames(source, 3.0)]
        assert len(frames) == 3
        assert all(abs(frame.float().mean() - 200) <= 16 for frame in frames)  # a GIF's few colours take turns


def test_pixels_are_pyavs(short_clip: bytes) -> None:
    with av.open(io.BytesIO(short_clip)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    seen = [frame_pixels(frame) for frame in steady_frames(short_clip, 10.0)]
    assert all(np.array_equal(one.permute(1, 2, 0), other) for one, other in zip(seen, expected, strict=True))


def test_clear_parts_of_a_gif_become_white() -> None:
    frames = [Image.new("RGBA", (16, 16), (0, 0, 0, 0)) for _ in range(3)]
    for place, frame in enumerate(frames):
        frame.paste((255, 0, 0, 255), (place, 0, place + 4, 16))
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100, disposal=2)
    first = frame_pixels(next(steady_frames(file.getvalue(), 10.0)))
    assert first[:, 8, 2].tolist() == [255, 0, 0]
    assert first[:, 8, 12].tolist() == [255, 255, 255]


@pytest.mark.parametrize("degrees, turns", [(90, -1), (180, 2), (270, 1)])
def test_phone_clips_stand_upright(degrees: int, turns: int) -> None:
    """The mp4's own matrix says how a player turns its frames clockwise."""
    picture = np.zeros((16, 32, 3), dtype=np.uint8)
    picture[:8, :8] = 255
    data = bytearray(film([picture] * 5, rate=5))
    one, cosine, sine = 0x10000, round(np.cos(np.radians(degrees))), round(np.sin(np.radians(degrees)))
    matrix = struct.pack(">9i", cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 0x40000000)
    place = data.index(b"tkhd") + 4 + 40
    data[place : place + 36] = matrix
    seen = frame_pixels(next(steady_frames(bytes(data), 5.0))).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(seen - np.rot90(picture, turns).astype(int)).max() <= 24


def test_reading_stops_where_the_reader_stops(long_clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    original = clips._decoded
    monkeypatch.setattr(clips, "_decoded", lambda *of: (decoded.append(1) or f for f in original(*of)))
    frames = steady_frames(long_clip, 3.0)
    assert len(list(islice(frames, 6))) == 6
    frames.close()
    assert len(decoded) < 25


@pytest.mark.parametrize("data", [b"", b"not a video", b"\0\0\0\x20ftypisom" + bytes(100), b"GIF89a"])
def test_what_is_no_video_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedItem):
        list(steady_frames(data, 3.0))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_clip_cut_short_is_damaged(long_clip: bytes, share: float) -> None:
    with pytest.raises(DamagedItem):
        list(steady_frames(long_clip[: int(len(long_clip) * share)], 3.0))


def test_a_clip_from_a_web_server_cut_short_is_what_there_is_of_it(long_clip: bytes, tmp_path: Path) -> None:
    data = streamable(long_clip, tmp_path / "whole.mp4")
    assert data.index(b"moov") < data.index(b"mdat")
    assert len(levels(data, 3.0)) == 36
    with collect_remarks() as remarks:
        assert 18 < len(levels(data[: len(data) - 500], 3.0)) < 36
    assert remarks[0].startswith("is cut short: ") and remarks[0].endswith(" s of about 11.9 s are there")


def test_a_broadcast_cut_short_is_what_there_is_of_it() -> None:
    """Matroska has no table: its beginning is a whole clip."""
    data = film(numbered(60), rate=10, format="matroska")
    seen = levels(data[: int(len(data) * 0.8)], 3.0)
    assert 3 < len(seen) < 18
    assert all(abs(number - place * 10 / 3) <= 2 for place, number in enumerate(seen))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    for missing in (tmp_path / "none.mp4", tmp_path, tmp_path / "empty.mp4", "http://localhost/a.mp4"):
        with pytest.raises(DamagedItem):
            list(steady_frames(missing, 3.0))


def test_sound_alone_is_damaged() -> None:
    with pytest.raises(DamagedItem, match="no video stream"):
        list(steady_frames(only_sound(), 3.0))


def test_a_list_of_other_files_is_not_followed(short_clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_bytes(short_clip)
    lists = {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/real.mp4\n#EXT-X-ENDLIST\n",
        "b.mp4": f"ffconcat version 1.0\nfile '{tmp_path}/real.mp4'\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(DamagedItem):
            list(steady_frames(tmp_path / name, 3.0))


def test_frames_too_large_are_refused(short_clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "MAX_PIXELS", SIDE * SIDE - 1)
    with pytest.raises(DamagedItem, match="pixels"):
        list(steady_frames(short_clip, 3.0))


def test_too_many_frames_are_refused(short_clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "MAX_RATE", 3)
    with pytest.raises(DamagedItem, match="3 frames a second"):
        list(steady_frames(short_clip, 3.0))


@settings(max_examples=50)
@given(place=st.integers(0, 100_000), value=st.integers(0, 255))
def test_a_changed_byte_raises_nothing_else(short_clip: bytes, place: int, value: int) -> None:
    data = bytearray(short_clip)
    data[place % len(data)] = value
    with contextlib.suppress(DamagedItem):
        for frame in islice(steady_frames(bytes(data), 3.0), 30):
            assert isinstance(frame_pixels(frame), torch.Tensor)
