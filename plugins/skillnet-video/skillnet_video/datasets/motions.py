"""Clips of one picture that moves, turns, grows or shrinks on a coloured ground."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av
import numpy as np
from PIL import Image

SIDE = 64
RATE = 12
FRAMES = 24
"""Two seconds."""

_ENCODER = "libx264"
_ENCODER_OPTIONS = {"preset": "veryfast", "crf": "20", "tune": "zerolatency"}


@dataclass(frozen=True)
class _Pose:
    """Where the picture is: its centre and its side as parts of the frame's side, its turn in degrees clockwise."""

    across: float = 0.5
    down: float = 0.5
    size: float = 0.5
    turn: float = 0.0


@dataclass(frozen=True)
class Motion:
    """What happens in a clip: ``caption`` says it of ``{}``; ``pose`` gives the pose at a time from 0 to 1."""

    caption: str
    pose: Callable[[float], _Pose]


NEAR, FAR = 0.27, 0.73
"""The ends of a course, from the left and from the top."""
SMALL, LARGE = 0.3, 0.95
ROUND = 240.0
OFF_COURSE = 0.05


def _between(first: float, last: float, time: float) -> float:
    return first + (last - first) * time


MOTIONS = (
    Motion("{}从左向右移动", lambda time: _Pose(across=_between(NEAR, FAR, time))),
    Motion("{}从右向左移动", lambda time: _Pose(across=_between(FAR, NEAR, time))),
    Motion("{}从上向下移动", lambda time: _Pose(down=_between(NEAR, FAR, time))),
    Motion("{}从下向上移动", lambda time: _Pose(down=_between(FAR, NEAR, time))),
    Motion("{}顺时针转动", lambda time: _Pose(turn=ROUND * time)),
    Motion("{}逆时针转动", lambda time: _Pose(turn=-ROUND * time)),
    Motion("{}逐渐变大", lambda time: _Pose(size=_between(SMALL, LARGE, time))),
    Motion("{}逐渐变小", lambda time: _Pose(size=_between(LARGE, SMALL, time))),
)


def render(picture: Image.Image, motion: Motion, rng: np.random.Generator) -> Iterator[Image.Image]:
    """The frames of a clip: a picture on a ground of a random light colour, a little off its course.

    Args:
        picture: RGBA.
        motion: what it does.
        rng: for the ground and the course.
    """
    ground = tuple(rng.integers(150, 256, size=3).tolist())
    across, down = rng.uniform(-OFF_COURSE, OFF_COURSE, size=2)
    for frame in range(FRAMES):
        pose = motion.pose(frame / (FRAMES - 1))
        canvas = Image.new("RGB", (SIDE, SIDE), ground)
        side = max(1, round(pose.size * SIDE))
        moved = picture.resize((side, side), Image.Resampling.BICUBIC).rotate(-pose.turn, Image.Resampling.BICUBIC)
        corner = (round((pose.across + across) * SIDE - side / 2), round((pose.down + down) * SIDE - side / 2))
        canvas.paste(moved, corner, moved)
        yield canvas


def encode(frames: Iterator[Image.Image]) -> bytes:
    """An mp4 file (H.264, RATE frames a second): the same frames, the same bytes."""
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(_ENCODER, rate=RATE, options=_ENCODER_OPTIONS)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    return file.getvalue()
