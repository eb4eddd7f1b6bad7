"""Clips as they are put into prepared sets: the frames that the reader keeps and no others, small, encoded anew."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import av
from PIL import Image

from skillnet_cli.api import Source, UserError
from skillnet_cli.prepare.preparer import Preparation
from skillnet_video.clips import Frame, frame_pixels, steady_frames

_OPTIONS = {"preset": "veryfast", "crf": "23", "tune": "zerolatency"}


@dataclass(frozen=True)
class Recoding:
    """``fps`` frames a second of at most ``seconds``, their short side no longer than ``side``: the paper's 3 of 10."""

    side: int = 256
    fps: int = 3
    seconds: float = 10.0

    def clip(self, source: Source, start: float | None = None) -> tuple[bytes, str]:
        """The clip as MP4 (H.264) of ``fps`` frames a second, and its suffix: the same frames, the same bytes.

        Args:
            source: a video file, as bytes or by its path.
            start: the second at which the clip begins, its first frame otherwise.

        Raises:
            DamagedItem: it cannot be decoded, holds no frames, or ends before ``start``.
        """
        with closing(steady_frames(source, float(self.fps), start)) as frames:
            kept = islice(frames, max(1, round(self.fps * self.seconds)))
            return _encoded((self._small(frame) for frame in kept), self.fps), ".mp4"

    def _small(self, frame: Frame) -> Image.Image:
        """A frame with even sides, which the encoder wants."""
        picture = Image.fromarray(frame_pixels(frame).permute(1, 2, 0).numpy())
        scale = min(1.0, self.side / min(picture.size))
        width, height = (max(2, 2 * round(pixels * scale / 2)) for pixels in picture.size)
        size = width, height
        return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def recoding_of(job: Preparation) -> Recoding:
    """The recoding that a job's options ask for. Raises UserError if ``--side`` is out of range."""
    side = job.options.get("side") or Recoding.side
    if not 16 <= side <= 2048:
        raise UserError(f"--side: {side} is not between 16 and 2048 pixels")
    return Recoding(side)


def _encoded(pictures: Iterable[Image.Image], fps: int) -> bytes:
    """Pictures of one size as an MP4 file."""
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=_OPTIONS)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.width, stream.height = picture.size
            if picture.size != (stream.width, stream.height):  # it changes within some files
                picture = picture.resize((stream.width, stream.height), Image.Resampling.BICUBIC)
            frame = av.VideoFrame.from_image(picture).reformat(format="yuv420p", threads=1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
