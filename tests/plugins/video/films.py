"""Clips written on the spot whose frames tell their number."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIDE = 32


def numbered(count: int) -> Iterator[np.ndarray]:
    """Even grey frames; frame i has level 2·i."""
    return (np.full((SIDE, SIDE, 3), 2 * number, dtype=np.uint8) for number in range(count))


def film(
    frames: Iterable[np.ndarray],
    rate: int,
    format: str = "mp4",
    codec: str = "libx264",
    times: Iterable[int] | None = None,
) -> bytes:
    """A file of these RGB frames; ``times`` are their places on a clock of ``rate`` ticks a second."""
    file = io.BytesIO()
    with av.open(file, mode="w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, options={"crf": "4"} if codec == "libx264" else {})
        stream.codec_context.thread_count = 1
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        stream.time_base = stream.codec_context.time_base = Fraction(1, rate)
        for place, pixels in zip(times or itertools.count(), frames, strict=False):
            if not stream.codec_context.is_open:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def streamable(data: bytes, path: Path) -> bytes:
    """The same mp4 with its table in front, as it lies on web servers."""
    with av.open(io.BytesIO(data)) as source, av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return path.read_bytes()


def only_sound() -> bytes:
    """A file without pictures."""
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
