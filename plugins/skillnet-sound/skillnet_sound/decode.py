"""Recordings of any format to blocks of mono samples at one rate, streaming.

FFmpeg decodes, through PyAV, by the content and not by the name; libsndfile reads the few formats that FFmpeg does not
know. What can be decoded is read, as the ``ffmpeg`` command reads it: damaged stretches are left out, a recording that
breaks off is read as far as it goes. Whoever collects remarks is told of both.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import soxr

from skillnet_cli.api import DamagedItem, Source, add_remark, collect_remarks
from skillnet_cli.sources.kinds import HEAD, kind_of
from skillnet_cli.untrusted import Untrusted, medium, open_regular
from skillnet_sound.ends import breaks_off, is_tag, states_its_length
from skillnet_sound.joined import Section, joined
from skillnet_sound.mixing import Mixer

Block = np.ndarray[Any, np.dtype[np.float32]]
"""Mono samples (samples,); those of whole numbers are between -1 and 1."""

Channels = np.ndarray[Any, np.dtype[np.float32]]
"""Samples (channels, samples)."""

BLOCK_VALUES = 2**16
"""Samples of all channels that are mixed and resampled at a time: bounds the memory whatever the file."""

RATES = range(1_000, 768_001)
"""Sample rates that recordings have; a header with another one is damaged, and resampling could exhaust the memory."""

CONTAINERS = (
    "aac,ac3,adx,aiff,amr,amrnb,amrwb,ape,asf,ast,au,avi,avr,caf,dsf,dss,dts,dtshd,dv,eac3,flac,flv,gxf,iff,ircam,"
    "latm,lc3,loas,matroska,mlp,mmf,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nsv,nut,ogg,oma,osq,paf,pvf,qcp,qoa,"
    "rm,sbc,sds,shn,sol,sox,swf,tak,truehd,tta,voc,vqf,w64,wav,wsd,wtv,wv,wve,xa,xwma"
)
"""What FFmpeg may open: formats that hold sound themselves. Playlists are not among them: they name other files and
hosts. Nor is what has no header: nothing says that bytes are sound, or at which rate."""

SOUND_FILES = "recording", "file", "video"
"""The last words of what :func:`kind_of` calls formats that may hold sound."""

GAP_SECONDS = 0.5
"""A longer time between two frames is a gap. Encoders that save silence leave out up to 0.4 seconds."""

CUT_SECONDS = 0.05
"""A recording that lacks less than this of the length that it states is whole: encoders round to frames."""


def blocks(source: Source, rate: int) -> Iterator[Block]:
    """The samples of a recording, mixed to mono and resampled to ``rate``, block by block.

    Remarks (:func:`skillnet_cli.api.add_remark`) on what is damaged or missing come with the last block.

    Raises:
        DamagedItem: there is no such file, or it may not be read; nothing of it can be decoded, or some samples are not
            numbers.
    """
    with _open(source) as file:
        head = file.read(HEAD)
        file.seek(0)
        if not head:
            raise DamagedItem("the file is empty")
        yield from _resampled(_mixed(_gathered(_decoded(file, head))), rate)


def _open(source: Source) -> io.BufferedIOBase | Any:
    try:
        given = medium(source, "a recording")
    except Untrusted as error:
        raise DamagedItem(str(error)) from error
    if isinstance(given, bytes):
        return io.BytesIO(given)
    try:
        return open_regular(given)
    except Untrusted as error:
        raise DamagedItem(f"it {error}") from error
    except OSError as error:
        raise DamagedItem(f"cannot be read: {error.strerror}") from error


class _Nameless:
    """A file without its name, by which FFmpeg would guess what it holds."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self.read, self.tell = file.read, file.tell

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Damaged files send FFmpeg to places that there are not: it takes -1 as an answer, and no exception."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


def _decoded(file: io.BufferedIOBase, head: bytes) -> Iterator[tuple[Channels, int]]:
    """Runs of samples of any length, and the rate of each; of joined files one after the other."""
    parts = joined(file)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if parts == [(0, size)]:
        yield from _decoded_one(file, head)
        return
    sections = [Section(file, start, end) for start, end in parts]
    yield from _decoded_section(sections[0]) if len(sections) == 1 else _decoded_joined(sections)


def _decoded_section(section: Section) -> Iterator[tuple[Channels, int]]:
    head = section.read(HEAD)
    section.seek(0)
    yield from _decoded_one(section, head)


def _decoded_joined(sections: Sequence[Section]) -> Iterator[tuple[Channels, int]]:
    """What can be decoded of several; one remark says what cannot. Raises DamagedItem where nothing can."""
    faults: list[tuple[int, str]] = []
    found = False
    for number, section in enumerate(sections, start=1):
        runs, run = _decoded_section(section), None
        while True:
            try:
                with collect_remarks() as said:
                    run = next(runs, None)
            except DamagedItem as error:
                said, run = [str(error)], None
            faults += [(number, text) for text in said]
            if run is None:
                break
            found = True
            yield run
    if not found:
        raise DamagedItem(faults[0][1])
    if faults:
        number, text = faults[0]
        more = f"; {len(faults) - 1} more are not whole" if len(faults) > 1 else ""
        add_remark(f"of {len(sections)} recordings joined in it, number {number} {text}{more}")


def _decoded_one(file: io.BufferedIOBase, head: bytes) -> Iterator[tuple[Channels, int]]:
    import av  # only where something is decoded: the loader's workers and the preparers

    try:
        # No protocol at all: a format that names another file is not followed.
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
        container = av.open(_Nameless(file), mode="r", container_options=options)
    except (av.FFmpegError, ValueError, OverflowError):
        file.seek(0)
        yield from _by_libsndfile(file, head)
        return
    with container:
        try:
            yield from _Decoding(container, file).samples()
        except (av.FFmpegError, ValueError) as error:
            raise DamagedItem(f"cannot be decoded: it is {kind_of(head)}, and damaged") from error


class _Decoding:
    """One track of an open container, packet by packet."""

    def __init__(self, container: Any, file: io.BufferedIOBase) -> None:
        self._container = container
        self._file = file
        self._stream = _track(container)
        self._stream.thread_type = "NONE"  # the loader's workers are many already
        self._seconds = 0.0  # decoded
        self._missing = 0.0  # between one frame and the next
        self._next: float | None = None  # when the next frame should begin
        self._failed = 0  # packets
        self._last_failed = False
        self._sizes: set[int] = set()  # of all packets but the last
        self._last_size = 0
        self._primed = False

    def samples(self) -> Iterator[tuple[Channels, int]]:
        """All that can be decoded, and at the end a remark on what cannot."""
        held: tuple[Channels, int] | None = None
        excess = 0
        for packet in self._packets():
            for frame in self._frames(packet):
                if held:
                    yield held
                held = _values(frame), frame.sample_rate
                self._count(frame)
                excess = self._excess(packet, frame)
        if held is None:
            raise DamagedItem("holds no sound")
        yield held[0][:, : held[0].shape[1] - excess], held[1]
        self._remark()

    def _packets(self) -> Iterator[Any]:
        """The packets of the track; the last one is empty and asks the decoder for what it still holds."""
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, ValueError):
                if self._container.format.name not in _ENDS_IN_ERROR:
                    self._fail()
                return
            except IndexError:  # PyAV's, of a track that appears behind the beginning: FFmpeg passes it over
                packets = self._container.demux(self._stream)
                continue
            if packet is None:
                return
            yield packet

    def _frames(self, packet: Any) -> list[Any]:
        import av

        sound = packet.size > 0 and not (self._container.format.name == "mp3" and is_tag(bytes(packet)))
        if sound:
            self._sizes.add(self._last_size)
            self._last_size = packet.size
            self._primed = self._primed or (packet.pts or 0) < 0
        try:
            frames: list[Any] = packet.decode()
        except av.EOFError:
            return []
        except (av.FFmpegError, ValueError):
            if sound:
                self._fail()
            return []
        if packet.size and frames:
            self._last_failed = False
        return frames

    def _fail(self) -> None:
        self._failed, self._last_failed = self._failed + 1, True

    def _count(self, frame: Any) -> None:
        seconds = frame.samples / max(1, frame.sample_rate)
        self._seconds += seconds
        if frame.time is None:
            return
        clocked = self._container.format.name not in _WITHOUT_CLOCK
        if clocked and self._next is not None and frame.time - self._next > GAP_SECONDS:
            self._missing += frame.time - self._next
        self._next = frame.time + seconds

    def _excess(self, packet: Any, frame: Any) -> int:
        """What the last frame of an MP4 has too many: the encoder filled it up, and the table says by how much."""
        if self._primed and packet.duration and packet.time_base and self._container.format.name.startswith("mov"):
            return max(0, frame.samples - round(packet.duration * packet.time_base * frame.sample_rate))
        return 0

    def _remark(self) -> None:
        stated = self._stated() or 0.0
        lacks = stated - self._seconds - self._missing > CUT_SECONDS and not self._failed
        if self._last_failed or lacks or self._ends_in_a_packet() or breaks_off(self._file):
            whole = f" of {stated:.1f}" if stated > self._seconds + CUT_SECONDS else ""
            add_remark(f"breaks off after {self._seconds:.1f}{whole} seconds")
        elif self._missing:
            add_remark(
                f"has gaps: {self._missing:.1f} seconds are missing between the {self._seconds:.1f} that are there"
            )
        elif self._failed:
            add_remark(f"is damaged: {self._failed} packets cannot be decoded; {self._seconds:.1f} seconds are there")

    def _stated(self) -> float | None:
        """The seconds that the file says it has; for many formats FFmpeg only estimates them."""
        stream = self._stream
        if not stream.duration or not stream.time_base:
            return None
        if not states_its_length(self._file, self._container.format.name):
            return None
        return float(stream.duration * stream.time_base)

    def _ends_in_a_packet(self) -> bool:
        """Whether the last of packets of one size (to a byte of padding or two) is smaller."""
        sizes = self._sizes - {0}
        raw = self._container.format.name in _STREAMS
        return raw and bool(sizes) and max(sizes) - min(sizes) <= 4 and self._last_size < min(sizes)


_STREAMS = ("mp3", "ac3", "eac3", "dts")
"""Formats of nothing but packets, mostly of one size: only the last packet can show that they are cut. That of AAC and
AMR, whose packets differ in size, cannot be decoded then."""

_ENDS_IN_ERROR = ("sds",)
"""Formats of which FFmpeg says at the end that the next packet is none; their header says how much there is."""

_WITHOUT_CLOCK = ("avi",)
"""Formats that number their packets. FFmpeg makes times of the numbers, and not always the right ones."""


def _track(container: Any) -> Any:
    """The track that ``ffmpeg`` takes: the default one, then the one with the most channels, then the first."""
    import av.stream

    tracks = [each for each in container.streams.audio if each.codec_context is not None]
    if not tracks:
        there = "in a format that is not decoded here" if container.streams.audio else "only pictures or text"
        raise DamagedItem(f"holds no sound that can be decoded: {there}")
    default = av.stream.Disposition.default
    return max(tracks, key=lambda each: (bool(each.disposition & default), each.codec_context.channels))


def _values(frame: Any) -> Channels:
    """A frame's samples as FFmpeg itself makes them floating-point."""
    values, channels = frame.to_ndarray(), frame.layout.nb_channels
    if not frame.format.is_planar:
        values = values.reshape(-1, channels).T
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    if np.issubdtype(values.dtype, np.integer):
        return (values / -float(np.iinfo(values.dtype).min)).astype(np.float32)
    return values.astype(np.float32, copy=False)


def _by_libsndfile(file: io.BufferedIOBase, head: bytes) -> Iterator[tuple[Channels, int]]:
    """A format that FFmpeg does not know, such as that of HTK or MATLAB."""
    import soundfile

    if head.startswith(b"ID3") or (head[0] == 0xFF and head[1:2] >= b"\xe0"):
        _refuse(head)  # libsndfile would take it for MP3, whose library writes on the terminal
    try:
        with soundfile.SoundFile(file) as sound:
            size, found = max(1, BLOCK_VALUES // sound.channels), 0
            while len(run := sound.read(size, dtype="float32", always_2d=True)):
                found += len(run)
                yield run.T, sound.samplerate
            if found == 0:
                raise DamagedItem("holds no sound")
            if found < sound.frames:
                add_remark(f"breaks off after {found / sound.samplerate:.1f} seconds")
    except (soundfile.LibsndfileError, TypeError, ValueError):
        _refuse(head)


def _refuse(head: bytes) -> NoReturn:
    kind = kind_of(head)
    if kind in ("an MP4 file", "a QuickTime file"):
        raise DamagedItem(f"cannot be decoded: it is {kind} without its table (moov), which recorders write last")
    if kind.endswith(SOUND_FILES):
        raise DamagedItem(f"cannot be decoded: it is {kind}, and damaged")
    raise DamagedItem(f"cannot be decoded: it is {kind}, not a recording or video whose sound is read here")


def _gathered(runs: Iterable[tuple[Channels, int]]) -> Iterator[tuple[Channels, int]]:
    """The same in runs of some :data:`BLOCK_VALUES` values each, as long as rate and channels stay."""
    held: list[Channels] = []
    kind, values = (0, 0), 0
    for samples, rate in runs:
        if held and (kind != (len(samples), rate) or values >= BLOCK_VALUES):
            yield np.concatenate(held, axis=1), kind[1]
            held, values = [], 0
        kind = len(samples), rate
        held.append(samples)
        values += samples.size
    if held:
        yield np.concatenate(held, axis=1), kind[1]


def _mixed(runs: Iterable[tuple[Channels, int]]) -> Iterator[tuple[Block, int]]:
    mixer = Mixer()
    for samples, rate in runs:
        if not np.isfinite(samples).all():
            raise DamagedItem("some samples are not numbers")
        yield mixer.mix(samples), rate


def _resampled(runs: Iterable[tuple[Block, int]], wanted: int) -> Iterator[Block]:
    """All at one rate; joined recordings may change theirs on the way."""
    stream: soxr.ResampleStream | None = None
    current = wanted
    for samples, rate in runs:
        if rate not in RATES:
            raise DamagedItem(f"a sample rate of {rate} Hz")
        if rate != current:
            yield from _rest(stream)
            current = rate
            stream = None if rate == wanted else soxr.ResampleStream(rate, wanted, num_channels=1, dtype="float32")
        part = samples if stream is None else stream.resample_chunk(samples)
        if not np.isfinite(part).all():
            raise DamagedItem("some samples are too large to be sound")
        yield part
    yield from _rest(stream)


def _rest(stream: soxr.ResampleStream | None) -> Iterator[Block]:
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
