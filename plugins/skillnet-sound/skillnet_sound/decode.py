"""Recordings of any format to blocks of mono samples at one rate, streaming."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from skillnet_cli.api import DamagedItem, Source, UserError

Block = np.ndarray[Any, np.dtype[np.float32]]
"""Mono samples (samples,) between -1 and 1."""

BLOCK_VALUES = 2**16
"""Samples of all channels that are decoded at a time: bounds the memory whatever the file."""

RATES = range(1_000, 768_001)
"""Sample rates that recordings have; a header with another one is damaged, and resampling could exhaust the memory."""

RIFF_UNKNOWN = 2**31
"""Recorders that stream do not know the size and announce the largest."""

CONTAINERS = "aac,aiff,amr,amrnb,amrwb,asf,caf,flac,matroska,mov,mp3,ogg,wav"
"""Formats that FFmpeg may open. Playlists are not among them: they can name other files and hosts."""


def blocks(source: Source, rate: int) -> Iterator[Block]:
    """The samples of a recording, mixed to mono and resampled to ``rate``, block by block.

    The format follows from the content, not from the name: soundfile reads what it knows, PyAV the rest.

    Raises:
        UserError: there is no such file, or it may not be read.
        DamagedItem: it cannot be decoded, now or at a later block.
    """
    with _open(source) as file:
        _check_size(file)
        try:
            sound = soundfile.SoundFile(file)
        except soundfile.LibsndfileError:
            file.seek(0)
            yield from _finite(_av_blocks(file, rate))
            return
        with sound:
            yield from _finite(_resampled(_soundfile_blocks(sound), sound.samplerate, rate))


def _open(source: Source) -> io.BufferedIOBase:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not Path(source).is_file():
        raise UserError(f"no such file: {source}")
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}") from error


def _check_size(file: io.BufferedIOBase) -> None:
    """Refuse an empty file, and a WAV file that lost its end: soundfile would silently read what is left."""
    size = file.seek(0, io.SEEK_END)
    if size == 0:
        raise DamagedItem("the file is empty")
    file.seek(0)
    tag, announced = file.read(4), 8 + int.from_bytes(file.read(4), "little")
    file.seek(0)
    if tag == b"RIFF" and size < announced < RIFF_UNKNOWN:
        raise DamagedItem(f"cut off after {size} of {announced} bytes")


def _finite(parts: Iterable[Block]) -> Iterator[Block]:
    for part in parts:
        if not np.isfinite(part).all():
            raise DamagedItem("some samples are not numbers")
        yield part


def _soundfile_blocks(sound: soundfile.SoundFile) -> Iterator[Block]:
    """All blocks. ``SoundFile.blocks`` would fill up what is missing at the end with whatever lies in the memory."""
    size, found = max(1, BLOCK_VALUES // sound.channels), 0
    try:
        while len(block := sound.read(size, dtype="float32", always_2d=True)):
            found += len(block)
            yield block[:, 0] if sound.channels == 1 else block.mean(axis=1)
        if found < sound.frames:
            raise DamagedItem(f"cut off after {found} of {sound.frames} samples")
    except soundfile.LibsndfileError as error:
        raise DamagedItem(f"cannot be decoded: {error}") from error


def _av_blocks(file: io.BufferedIOBase, rate: int) -> Iterator[Block]:
    import av  # slow to import, and most recordings do without

    try:
        with av.open(file, options={"format_whitelist": CONTAINERS}) as container:
            stream = next(iter(container.streams.audio), None)
            if stream is None or stream.codec_context is None:
                raise DamagedItem("holds no sound that can be decoded")
            yield from _resampled(_av_frames(container, stream), stream.rate, rate)
    except (av.error.FFmpegError, ValueError) as error:
        raise DamagedItem(f"cannot be decoded: {getattr(error, 'strerror', error)}") from error


def _av_frames(container: Any, stream: Any) -> Iterator[Block]:
    from av.audio.resampler import AudioResampler

    planar = AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
    for frame in container.decode(stream):
        for part in planar.resample(frame):
            yield part.to_ndarray().mean(axis=0, dtype=np.float32)


def _resampled(parts: Iterable[Block], rate: int, wanted: int) -> Iterator[Block]:
    if rate not in RATES:
        raise DamagedItem(f"a sample rate of {rate} Hz")
    if rate == wanted:
        yield from parts
        return
    stream = soxr.ResampleStream(rate, wanted, num_channels=1, dtype="float32")
    for part in parts:
        yield stream.resample_chunk(part)
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
