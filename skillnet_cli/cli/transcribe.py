"""``skillnet transcribe``: recordings to text and subtitles."""

from __future__ import annotations

import ctypes
import io
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar

import typer

from skillnet_cli.api import DamagedItem, FailedJob, UserError, collect_remarks
from skillnet_cli.cli.checkpoint import Saved, find_checkpoint
from skillnet_cli.cli.common import (
    AsJson,
    BatchSize,
    Checkpoint,
    Device,
    Precision,
    PrecisionName,
    complete,
    print_json,
    print_line,
    remark,
)
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.inference.transcriber import Passage, Transcriber

T = TypeVar("T")

STDIN = "-"

MOST_PIPED = 16 << 30
"""The most bytes that are taken from a pipe, into a temporary file."""

WAIT_FOR_WRITER = 10.0
"""Seconds after which a named pipe that nothing writes into is given up; opening one would wait for ever."""


class _Format(str, Enum):
    """The format of transcripts."""

    text = "text"
    srt = "srt"
    vtt = "vtt"
    json = "json"


def transcribe(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|FOLDER|-...", help="Recordings of any length, or videos with sound; - is standard input."
        ),
    ],
    format_: Annotated[_Format, typer.Option("--format", help="Format of the transcripts.")] = _Format.text,
    task: Annotated[
        str | None,
        typer.Option(
            help="The task that transcribes, where the model has several.",
            autocompletion=complete("tasks"),
            show_default=False,
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    precision: Precision = PrecisionName.auto,
    batch_size: BatchSize = None,
    as_json: AsJson = False,
) -> None:
    """Transcribe recordings.

    Long recordings are cut into windows at quiet points; subtitles have one passage per window, and windows without
    sound are left out. Text and subtitles appear as they are made. Of a folder all recordings are taken; a file that is
    named may be called anything. Of a recording that is cut short or damaged, what is there is transcribed, and that is
    said.

    \b
    Examples:
      skillnet transcribe clip.wav
      skillnet transcribe talk.mp3 --format srt > talk.srt
      skillnet transcribe *.wav --json
      ffmpeg -i talk.mkv -f wav - | skillnet transcribe - --format srt
    """
    wanted = _Format.json if as_json else format_
    _check(files)
    saved = find_checkpoint(checkpoint, lambda each: _transcribes(each, task))

    from skillnet_cli.inference.capabilities import Capabilities
    from skillnet_cli.inference.transcriber import Transcriber

    chosen = Capabilities(saved.config, load_registry()).transcribing_task(task)
    recordings, left_out = _recordings(files, chosen.skills[0])
    if wanted in (_Format.srt, _Format.vtt) and len(recordings) > 1:
        raise UserError(f"--format {wanted.value} takes one recording at a time, and {len(recordings)} are named")
    _return_memory()
    opened = saved.open(tasks=[chosen.name], device=device)
    transcriber = Transcriber(*opened, chosen, precision.value, batch_size)
    job = _Job(transcriber, wanted, len(recordings) > 1)
    try:
        for recording in _watched(recordings, len(recordings), wanted):
            job.add(recording)
    finally:  # interrupted as well: what is done is printed
        if wanted is _Format.json and (job.rows or sys.exc_info()[0] is None):
            facts = {"damaged": job.damaged, "remarks": job.remarks, "left_out": left_out}
            print_json({"model": saved.fingerprint, "transcripts": job.rows, **facts})
    job.check()


def _return_memory() -> None:
    """Have glibc give back what is freed. Windows differ in length, and its heap would grow with each: by 0.4 GB in
    two minutes of sound, by 0.1 GB with this. Nor need oneDNN remember how it computes each of these lengths, which
    took a megabyte for each minute of sound."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")  # read at its first computation
    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


_M_MMAP_THRESHOLD = -3
"""Of malloc.h: larger blocks are mapped, and unmapped when they are freed."""


def _transcribes(saved: Saved, task: str | None) -> bool:
    from skillnet_cli.inference.capabilities import Capabilities

    with suppress(UserError):
        Capabilities(saved.config, load_registry()).transcribing_task(task)
        return True
    return False


def _check(files: Sequence[Path]) -> None:
    """Raises UserError where a file is missing or cannot be read at all."""
    for file in files:
        if str(file) == STDIN:
            if sys.stdin.isatty():
                raise UserError("- reads a recording from standard input, and that is a terminal: name a file")
            continue
        try:
            mode = file.stat().st_mode
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) if file.is_symlink() or not _is_missing(error) else None
            raise UserError(f"{file}: {reason or 'no such file'}") from error
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISFIFO(mode)):
            raise UserError(f"{file}: is a device or a socket, not a recording")


def _is_missing(error: Exception) -> bool:
    return isinstance(error, (FileNotFoundError, NotADirectoryError, ValueError))


def _recordings(files: Sequence[Path], skill: str) -> tuple[list[Path], dict[str, int]]:
    """What is named, whatever it is called, and the recordings in the folders that are named.

    Returns:
        The recordings, and how many other files of the folders were left out, by suffix or reason; these are printed.

    Raises:
        UserError: there is no recording.
    """
    from skillnet_cli.inference.walk import find_files

    registry = load_registry()
    found: list[Path] = []
    left_out: dict[str, int] = {}
    for each in files:
        if str(each) == STDIN or not each.is_dir():
            found.append(each)
            continue
        inside = find_files([each], registry)
        for text in inside.remarks():
            remark(text)
        others: dict[str, int] = {}
        for file in inside.files:
            modality = registry.modality_of_suffix(file.suffix)
            if modality is not None and modality.skill == skill:
                found.append(file)
            else:
                others[file.suffix.lower()] = others.get(file.suffix.lower(), 0) + 1
        if others:
            listed = ", ".join(f"{count} {suffix}" for suffix, count in others.items())
            remark(f"{each}: left out: {listed}: not recordings by their names; name them to have them transcribed")
        for reason, count in (*inside.counts().items(), *others.items()):
            left_out[reason] = left_out.get(reason, 0) + count
    if not found:
        raise UserError(f"no recordings in {', '.join(map(str, files))}")
    return found, left_out


def _watched(items: Sequence[T], total: int, wanted: _Format) -> Iterator[T]:
    """The items, under a bar where a person watches and sees nothing else move."""
    from skillnet_cli.data.progress import Silent, choose_progress

    moving = wanted is not _Format.json and sys.stdout.isatty()
    progress = choose_progress() if sys.stderr.isatty() and not moving and total > 1 else Silent()
    yield from progress.track(items, total, "transcribing")


@dataclass
class _Job:
    """Transcribes recordings one after the other, and prints text and subtitles as they are made.

    Attributes:
        rows: the transcripts as JSON, those of recordings that were read to the end.
        damaged: recording -> why it could not be read, or not to its end.
        remarks: recording -> what is to be said of it though it was read.
    """

    transcriber: Transcriber
    wanted: _Format
    several: bool
    rows: list[dict[str, Any]] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)

    def add(self, recording: Path) -> None:
        """Transcribe one recording."""
        name = str(recording)
        passages: list[Passage] = []
        with collect_remarks() as said:
            try:
                with _on_disk(recording) as path:
                    self._print(name, self._kept(path, passages))
            except DamagedItem as error:
                self.damaged[name] = str(error)
                if self.several:
                    remark(f"{name}: {error}")
                return
        if said:
            self.remarks[name] = said
        for text in said:
            remark(f"{name}: {text}")
        text = self.transcriber.joined(passage.text for passage in passages)
        self.rows.append({"path": name, "text": text, "passages": [asdict(each) for each in passages]})

    def check(self) -> None:
        """Raise UserError where nothing could be read, FailedJob where some recordings could not."""
        if not self.damaged:
            return
        total = len(self.rows) + len(self.damaged)
        if not self.several:
            raise UserError("; ".join(f"{name}: {reason}" for name, reason in self.damaged.items()))
        if not self.rows:
            raise UserError(f"none of {total} files could be read")
        raise FailedJob(f"{len(self.damaged)} of {total} files could not be read")

    def _kept(self, path: Path, passages: list[Passage]) -> Iterator[Passage]:
        from skillnet_cli.inference.encoder import UNREADABLE, why

        try:
            for passage in self.transcriber.passages(path):
                passages.append(passage)
                yield passage
        except UNREADABLE as error:  # here, so that no error of printing is taken for one
            raise DamagedItem(why(error)) from error

    def _print(self, name: str, passages: Iterator[Passage]) -> None:
        first = next(passages, None)  # a recording that cannot be read at all prints nothing
        passages = passages if first is None else chain([first], passages)
        if self.wanted is _Format.text:
            print_line(f"{name}: " if self.several else "", end="")
            self._print_text(passages)
            return
        from skillnet_cli.inference.transcriber import VTT_HEADER, srt_cue, vtt_cue

        if self.wanted is _Format.vtt:
            print_line(VTT_HEADER)
        spoken = 0
        for each in passages:
            if each.text and self.wanted is not _Format.json:
                spoken += 1
                print_line(srt_cue(spoken, each) if self.wanted is _Format.srt else vtt_cue(each))

    def _print_text(self, passages: Iterator[Passage]) -> None:
        """Print the text of a recording on one line, piece by piece."""
        between = ""
        try:
            for each in passages:
                if each.text:
                    print_line(between + each.text, end="")
                    between = self.transcriber.between
        finally:
            print_line()


@contextmanager
def _on_disk(recording: Path) -> Iterator[Path]:
    """The recording as a file: what comes from a pipe is read once, into a temporary one.

    Raises:
        DamagedItem: it is too long, has gone, or is a pipe that nothing writes into.
    """
    piped = str(recording) == STDIN
    try:
        is_file = not piped and not stat.S_ISFIFO(recording.stat().st_mode)
    except OSError as error:
        raise DamagedItem(f"cannot be read: {error.strerror}") from error
    if is_file:
        yield recording
        return
    with tempfile.TemporaryDirectory(prefix="skillnet-") as folder:
        path = Path(folder) / "recording"
        with path.open("wb") as copy:
            _copy(_chunks(sys.stdin.buffer) if piped else _named_pipe(recording), copy)
        yield path


def _named_pipe(path: Path) -> Iterator[bytes]:
    """What is written into a named pipe. Raises DamagedItem where nothing opens it for writing."""
    until = time.monotonic() + WAIT_FOR_WRITER
    with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as pipe:
        # Without a writer there is the end at once, b""; from one that has written nothing yet there is None.
        while (first := pipe.read(1 << 16)) == b"":
            if time.monotonic() > until:
                raise DamagedItem(f"is a pipe, and nothing was written into it within {WAIT_FOR_WRITER:g} seconds")
            time.sleep(0.02)
        os.set_blocking(pipe.fileno(), True)
        yield first or b""
        yield from _chunks(pipe)


def _chunks(pipe: BinaryIO | io.BufferedIOBase | io.RawIOBase) -> Iterator[bytes]:
    while content := pipe.read(1 << 20):
        yield content


def _copy(chunks: Iterator[bytes], copy: io.BufferedIOBase) -> None:
    left = MOST_PIPED
    for content in chunks:
        left -= len(content)
        if left < 0:
            raise DamagedItem(f"more than {MOST_PIPED >> 30} GB come from the pipe")
        copy.write(content)
