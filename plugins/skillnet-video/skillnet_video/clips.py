"""From a video file to its frames at a steady rate, decoded one after the other (seeking costs more)."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import av
import numpy as np
import torch
from av.container import InputContainer
from av.format import Flags
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.stream import VideoStream
from jaxtyping import UInt8
from torch import Tensor

from skillnet_cli.api import DamagedItem, Source, add_remark
from skillnet_cli.sources.kinds import HEAD, kind_of
from skillnet_cli.untrusted import Untrusted, medium, open_regular
from skillnet_image.pictures import check_size
from skillnet_image.pixels import flatten, square

MAX_PIXELS = 8192 * 4608
"""The largest frame that is decoded: 8K, and a little more."""
KEPT = 1920 * 1200
"""Pixels of the largest frames that are kept as they are while it is not known which of them are wanted."""
MAX_RATE = 1000
"""The most frames a second that are decoded: a file may claim any number."""
MAX_STILL = 3600.0
"""Seconds that a frame may stay: a longer gap is a fault of the clock."""
FORMATS = "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,rm,mxf,dv,ivf,h264,hevc,yuv4mpegpipe,nut"
"""FFmpeg's names of what is read: containers of single files. Playlists, which name further files and addresses, and
everything that asks a server or a device are refused."""
DISCONTINUITY = 10.0
"""Seconds by which the clock of a broadcast may jump forward, as FFmpeg has it; more is another programme's clock."""
_BACKWARD = 0.1
_WIDEST = 8
"""Pixels are at most so many times as wide as high, or as high as wide: other ratios are mistakes."""


@dataclass(frozen=True)
class Frame:
    """A frame as it is stored, and how wide its pixels are to be shown, as a multiple of their height."""

    image: av.VideoFrame
    pixel_aspect: Fraction = Fraction(1)

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height of the frame with square pixels, before it is turned upright."""
        width, height = self.image.width, self.image.height
        wide = max(1, round(width * self.pixel_aspect))
        return (wide, height) if wide * height <= MAX_PIXELS else (width, max(1, round(height / self.pixel_aspect)))


def steady_frames(source: Source, fps: float, start: float | None = None) -> Generator[Frame, None, None]:
    """The frames on the screen at 0, 1/fps, 2/fps, … seconds of a clip of any length; a still one comes again.

    What is there of an interrupted recording is a clip, with a remark.

    Args:
        source: a video file, as bytes or by its path.
        fps: frames per second to take.
        start: begin at this second of the video, its first frame being at 0.

    Raises:
        DamagedItem: it is no video, holds no frame that can be decoded, its frames are too large or too many, or it
            ends before ``start``.
    """
    with _opened(source) as container:
        stream = _pictures(container)
        read = _Read(container, stream)
        yield from _at_rate(_on_clock(_decoded(read, start), read, start), fps, start)


@contextmanager
def _opened(source: Source) -> Iterator[InputContainer]:
    """Open a file, and turn whatever goes wrong while it is read into DamagedItem."""
    with _head(source) as file:
        try:
            with av.open(**_place(source, file), mode="r") as container:
                yield container
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DamagedItem(_complaint(file, getattr(error, "strerror", None) or str(error))) from error


@contextmanager
def _head(source: Source) -> Iterator[Any]:
    """The file, to look at its first bytes. Raises DamagedItem where there is none."""
    try:
        given = medium(source, "a clip")
        with io.BytesIO(given) if isinstance(given, bytes) else open_regular(given) as file:
            if not file.read(1):
                raise DamagedItem("is empty (zero bytes)")
            file.seek(0)
            yield file
    except Untrusted as error:
        raise DamagedItem(str(error)) from error
    except (OSError, ValueError) as error:
        raise DamagedItem(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _place(source: Source, file: io.BufferedIOBase) -> dict[str, Any]:
    """What PyAV opens: of a path the path, whose file FFmpeg reads faster than by Python's methods.

    References to other files are not followed (``enable_drefs``, which FFmpeg would follow only where asked to); and
    for bytes, which need none, no protocol is allowed.
    """
    place, protocols = (file, "none") if isinstance(source, bytes) else (f"file:{source}", "file")
    return {"file": place, "container_options": {"format_whitelist": FORMATS, "protocol_whitelist": protocols}}


def _complaint(file: io.BufferedIOBase, reason: str) -> str:
    """What to say of a file that FFmpeg does not open, or not decode."""
    file.seek(0)
    head = file.read(HEAD)
    kind = kind_of(head)
    if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free") and not _has_table(file):
        return "is cut short: the table of its frames, which comes last, is missing"
    if any(word in kind for word in ("video", "file", "Matroska", "not known")):
        return f"is not a video that can be decoded: {reason}"
    return f"is not a video but {kind}"


def _has_table(file: io.BufferedIOBase) -> bool:
    """Whether an MP4 or QuickTime file has its table, ``moov``."""
    at, size = 0, file.seek(0, io.SEEK_END)
    while at + 8 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if name == b"moov":
            return at + length <= size
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8:
            return False
        at += length
    return False


def _pictures(container: InputContainer) -> VideoStream:
    """The track that FFmpeg would show: the largest, one that is marked as the usual one first. Never a cover picture.

    One thread: loader workers are many already.
    """
    tracks = [track for track in container.streams.video if not track.disposition & Disposition.attached_pic]
    if not tracks:
        only = "only a cover picture" if container.streams.video else "no video stream"
        raise DamagedItem(f"holds no moving pictures ({only})")
    decodable = [track for track in tracks if track.codec_context is not None]
    if not decodable:
        raise DamagedItem("is packed in a way that nothing here decodes")
    stream = max(decodable, key=_rank)
    check_size(stream.width, stream.height, MAX_PIXELS)
    stream.thread_type = "NONE"
    _look_for_missing(container, stream)
    return stream


def _rank(track: VideoStream) -> int:
    return track.width * track.height + 5_000_000 * bool(track.disposition & Disposition.default)


def _look_for_missing(container: InputContainer, stream: VideoStream) -> None:
    """Say where a file ends before its own table does."""
    entries, size = stream.index_entries, container.size
    if not len(entries) or entries[-1].pos + entries[-1].size <= size or stream.time_base is None:
        return
    there = [entry.timestamp for entry in entries if entry.pos + entry.size <= size]
    first, last = entries[0].timestamp, entries[-1].timestamp
    seconds = float((max(there, default=first) - first) * stream.time_base)
    stated = float((last - first) * stream.time_base)
    if not _is_short(stated, _claimed(container, stream)):  # else FFmpeg has made it, of what is there
        add_remark(f"is cut short: {seconds:.1f} s of about {stated:.1f} s are there")


def _claimed(container: InputContainer, stream: VideoStream) -> float:
    """How many seconds a file claims to have; some formats state only how long the longest of all tracks is."""
    if stream.duration and stream.time_base:
        claimed = float(stream.duration * stream.time_base)
    else:
        claimed = (container.duration or 0) / av.time_base
    if stream.frames and stream.average_rate:  # of an AVI that is cut short FFmpeg estimates the duration
        claimed = max(claimed, float(stream.frames / stream.average_rate))
    return claimed


def _is_short(seconds: float, claimed: float) -> bool:
    return seconds < 0.9 * claimed - 0.5


class _Read:
    """The track of a file, and how far the file has been read.

    Attributes:
        end: the second at which what was read of any track ends: the sound may go on behind the pictures.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.container, self.stream, self.end = container, stream, 0.0

    def packets(self) -> Iterator[av.Packet | None]:
        """The track's packets as far as they can be read, then None."""
        begin = (self.container.start_time or 0) / av.time_base
        packets = self.container.demux()
        while True:
            try:
                packet = next(packets, None)
            except IndexError:  # PyAV's, of a track that appears behind the beginning: FFmpeg passes it over
                packets = self.container.demux()
                continue
            except av.FFmpegError as error:
                add_remark(f"cannot be read to its end ({error.strerror})")
                break
            if packet is None:
                break
            if packet.pts is not None and packet.time_base:
                self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - begin)
            if packet.stream_index == self.stream.index and packet.size:
                yield packet
        yield None


def _decoded(read: _Read, start: float | None) -> Iterator[av.VideoFrame]:
    """All frames that can be decoded, or those from some way before ``start``, in the order in which they are shown."""
    container, stream = read.container, read.stream
    if start and stream.time_base:
        with suppress(av.FFmpegError):  # what cannot be sought in is read from its beginning
            container.seek(int(start / stream.time_base) + (stream.start_time or 0), stream=stream)
    shown = failed = 0
    for packet in read.packets():
        try:
            frames = stream.decode(packet)
        except av.FFmpegError:  # as FFmpeg does: what comes next may be sound
            failed += 1
            continue
        for frame in frames:
            check_size(frame.width, frame.height, MAX_PIXELS)
            shown += 1
            yield frame
    if not shown:
        raise DamagedItem(f"holds no frames{' that can be decoded' if failed else ''}")
    if failed:
        add_remark(f"{failed:,} of its frames cannot be decoded")


def _on_clock(
    frames: Iterable[av.VideoFrame], read: _Read, start: float | None
) -> Iterator[tuple[float, float, Frame]]:
    """Frames with the second at which they appear, counted from the first frame, and the seconds that they stay.

    A frame without a time follows the one before it. A clock that goes back, or that jumps ahead too far, goes on from
    where it was: several broadcasts or recordings in one file have several.
    """
    container, stream = read.container, read.stream
    step = 1.0 / float(stream.guessed_rate or stream.average_rate or 25)
    flags: Any = container.format.flags
    limit = DISCONTINUITY if flags & Flags.ts_discont.value else MAX_STILL
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    aspect = aspect if Fraction(1, _WIDEST) <= aspect <= _WIDEST else Fraction(1)
    begin = float(stream.start_time * stream.time_base) if start and stream.start_time and stream.time_base else None
    shift, first, last, expected, stamps = 0.0, None, None, 0.0, _Stamps()
    for number, frame in enumerate(frames):
        # The last frames, which the decoder gives at the end, have no time base of their own.
        base = frame.time_base or stream.time_base
        stays = min(MAX_STILL, float(frame.duration * base)) if frame.duration and base else step
        stamp = stamps.of(frame)
        time = expected if stamp is None or base is None else float(stamp * base)
        if begin is None:
            begin = 0.0 if start else time
        if stamp is not None:
            time += shift - begin
        if last is not None and (time < last - _BACKWARD or time > expected + limit):
            shift, time = shift + expected - time, expected
        time = time if last is None else max(time, last)
        first = time if first is None else first
        if number > MAX_RATE * (1 + time - first):
            raise DamagedItem(f"claims more than {MAX_RATE} frames a second")
        last, expected = time, time + stays
        yield time, stays, Frame(frame, aspect)
    _look_for_more(read, expected)


class _Stamps:
    """Which of a frame's two time stamps to trust, as FFmpeg does: the one that went back less often.

    AVI files with B-frames have sound decoding times and senseless presentation times.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._faults = {"pts": 0, "dts": 0}

    def of(self, frame: av.VideoFrame) -> int | None:
        """The stamp of the next frame, in units of its time base; None where it has none."""
        for name, stamp, other in (("dts", frame.dts, frame.pts), ("pts", frame.pts, frame.dts)):
            if stamp is not None:
                self._faults[name] += name in self._last and stamp <= self._last[name]
            if (known := other if stamp is None else stamp) is not None:
                self._last[name] = known
        trusted = frame.dts is None or self._faults["pts"] <= self._faults["dts"]
        return frame.pts if trusted and frame.pts is not None else frame.dts


def _look_for_more(read: _Read, end: float) -> None:
    """Say where all tracks end long before the file claims to."""
    claimed = _claimed(read.container, read.stream)
    if _is_short(max(end, read.end), claimed):
        add_remark(f"is cut short: {end:.1f} s of about {claimed:.1f} s are there")


def _at_rate(frames: Iterable[tuple[float, float, Frame]], fps: float, start: float | None) -> Iterator[Frame]:
    """Hold each frame until the next one begins, the last one for as long as it says, and look at a steady rate."""
    begin, taken, shown, end = start or 0.0, 0, None, 0.0
    for time, stays, frame in frames:
        while shown is not None and taken / fps < time - begin - 1e-6:
            yield shown
            taken += 1
        shown, end = frame, time - begin + stays
    if shown is None:
        raise DamagedItem("holds no frames")
    if start is not None and end <= 0:
        raise DamagedItem(f"ends before second {start:g}, where the clip begins")
    while taken == 0 or taken / fps < end - 1e-6:
        yield shown
        taken += 1


def frame_pixels(frame: Frame) -> UInt8[Tensor, "3 height width"]:
    """A frame as RGB pixels, square ones, upright, transparent parts white."""
    image, (width, height) = frame.image, frame.shown
    alpha = any(component.is_alpha for component in image.format.components)
    scaled: dict[str, Any] = (
        {} if frame.pixel_aspect == 1 else {"width": width, "height": height, "interpolation": "BICUBIC"}
    )
    pixels = image.to_ndarray(format="rgba" if alpha else "rgb24", threads=1, **scaled)
    return flatten(torch.from_numpy(np.ascontiguousarray(_upright(pixels, image))).permute(2, 0, 1))


def squares(frames: Iterable[Frame], side: int) -> list[Callable[[], UInt8[Tensor, "3 side side"]]]:
    """For each frame what gives its centre, ``side`` × ``side`` pixels, when it is wanted.

    Of 30 frames six are wanted; but 30 large ones, 50 MB each, are not kept as they are.
    """
    found: list[Callable[[], Tensor]] = []
    last = None
    for frame in frames:
        if frame is not last:
            small = partial(_square, frame, side)
            if frame.image.width * frame.image.height > KEPT:
                small = partial(_give, small())
        found.append(small)
        last = frame
    return found


def _square(frame: Frame, side: int) -> UInt8[Tensor, "3 side side"]:
    return square(frame_pixels(frame), side)


def _give(pixels: Tensor) -> Tensor:
    return pixels


def _upright(pixels: np.ndarray, image: av.VideoFrame) -> np.ndarray:
    """Rows and columns exchanged and flipped as the file's display matrix has it, to the nearest right angle."""
    sides: Any = image.side_data  # by kind or by place; the types know places only
    found = sides.get(Type.DISPLAYMATRIX)
    if found is None:
        return pixels
    matrix = np.frombuffer(bytes(found), np.int32)
    across, down = matrix[[0, 1]], matrix[[3, 4]]  # where the stored picture's columns and rows lead: (right, down)
    if abs(int(across[0])) >= abs(int(across[1])):
        right, below = across[0], down[1]
    else:
        pixels, right, below = pixels.swapaxes(0, 1), down[0], across[1]
    return pixels[:: -1 if below < 0 else 1, :: -1 if right < 0 else 1]
