"""From a video file to its frames at a steady rate, decoded one after the other (seeking costs more)."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import UInt8
from torch import Tensor

from skillnet_cli.api import DamagedItem, Source
from skillnet_image.pixels import check_size, flatten

MAX_PIXELS = 4096 * 4096
"""The largest frame that is decoded."""
MAX_RATE = 1000
"""The most frames a second that are decoded: a file may claim any number."""
FORMATS = "mov,mp4,matroska,webm,avi,gif"
"""Containers of single files. Play lists, which name further files and addresses, are refused."""


def steady_frames(source: Source, fps: float, start: float | None = None) -> Generator[av.VideoFrame, None, None]:
    """The frames on the screen at 0, 1/fps, 2/fps, … seconds of a clip of any length; a still one comes again.

    Args:
        source: a video file, as bytes or by its path.
        fps: frames per second to take.
        start: begin at this second of the video's own clock; None for the first frame.

    Raises:
        DamagedItem: it is no video, is damaged or cut short, or its frames are too large or too many; or it ends
            before ``start``.
    """
    with _opened(source) as container:
        yield from _at_rate(_decoded(container, start), fps, start)


@contextmanager
def _opened(source: Source) -> Iterator[InputContainer]:
    """Open a file, and turn whatever goes wrong while it is read into DamagedItem."""
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        with av.open(_file(source), mode="r", container_options=options) as container:
            yield container
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DamagedItem(f"is not a video that can be decoded: {reason}") from error


def _file(source: Source) -> io.BytesIO | str:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not Path(source).is_file():
        raise DamagedItem(f"cannot be read: there is no file {source}")
    return f"file:{source}"


def _decoded(container: InputContainer, start: float | None = None) -> Iterator[av.VideoFrame]:
    """All frames in order of time, or those from some way before ``start``."""
    stream = _pictures(container)
    if start and stream.time_base:
        container.seek(int(start / stream.time_base), stream=stream)
    for number, frame in enumerate(container.decode(stream)):
        check_size(frame.width, frame.height, MAX_PIXELS)
        if frame.time is not None:
            if number > MAX_RATE * (1 + frame.time):
                raise DamagedItem(f"claims more than {MAX_RATE} frames a second")
            yield frame


def _pictures(container: InputContainer) -> VideoStream:
    """The first video stream, if it is whole. One thread: loader workers are many already."""
    if not container.streams.video:
        raise DamagedItem("holds no pictures (no video stream)")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise DamagedItem("is packed in a way that nothing here decodes")
    check_size(stream.width, stream.height, MAX_PIXELS)
    last = stream.index_entries[-1] if len(stream.index_entries) else None
    if last and last.pos + last.size > container.size:
        raise DamagedItem("is cut short: its table names frames beyond its end")
    stream.thread_type = "NONE"
    return stream


def _at_rate(frames: Iterable[av.VideoFrame], fps: float, start: float | None = None) -> Iterator[av.VideoFrame]:
    """Hold each frame until the next one begins, the last one for as long as it says, and look at a steady rate."""
    cut, taken, shown = start, 0, None
    for frame in frames:
        if start is None:
            start = frame.time
        while shown is not None and taken / fps < frame.time - start - 1e-6:
            yield shown
            taken += 1
        shown = frame
    if shown is None or start is None:
        raise DamagedItem("holds no frames")
    end = shown.time - start + _seconds(shown)
    if cut is not None and end <= 0:
        raise DamagedItem(f"ends before second {cut:g}, where the clip begins")
    while taken == 0 or taken / fps < end - 1e-6:
        yield shown
        taken += 1


def _seconds(frame: av.VideoFrame) -> float:
    """How long a frame stays, where its file says so."""
    return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0


def frame_pixels(frame: av.VideoFrame) -> UInt8[Tensor, "3 height width"]:
    """A frame as RGB pixels, upright, transparent parts white."""
    alpha = any(component.is_alpha for component in frame.format.components)
    pixels = frame.to_ndarray(format="rgba" if alpha else "rgb24", threads=1)  # loader workers are many already
    upright = np.rot90(pixels, round(frame.rotation / 90))
    return flatten(torch.from_numpy(np.ascontiguousarray(upright)).permute(2, 0, 1))
