"""What becomes of one recording: kept as it is, cut at quiet points, or left out by a stated rule."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile

from skillnet_cli.api import DamagedItem, collect_remarks, frames_needed
from skillnet_cli.prepare.preparer import Kept, Rejected
from skillnet_sound.config import SoundConfig
from skillnet_sound.decode import Block, blocks
from skillnet_sound.frames import frame_count
from skillnet_sound.windows import windows

CONFIG = SoundConfig()
LONGEST_HOURS = 12
"""The most that a single file may hold; more is not a recording of speech but a mistake, or made to fill the disk."""


OVERSHOOT_SECONDS = 0.5
"""An utterance may end so much later than its recording, as in Kaldi: whoever wrote the times has rounded."""


def transcribed(split: str, id: str, suffix: str, content: bytes, text: str, compared: bool) -> Kept | Rejected:
    """The item that a recording with its transcript becomes.

    Args:
        split: its split.
        id: unique in the split.
        suffix: of the file, with the dot.
        content: the file's bytes, which are kept.
        text: the transcript, as it is to be kept.
        compared: whether a later recording of the same bytes shall be a duplicate.

    Raises:
        DamagedItem: the recording cannot be decoded or holds nothing, or the transcript is empty.
    """
    if not text:
        raise DamagedItem("its transcript is empty")
    samples = _length(content)
    if samples > CONFIG.max_samples:
        return Rejected(split, id, "filtered", f"longer than {CONFIG.max_seconds:g} seconds")
    frames, needed = max(0, frame_count(samples)), frames_needed(text)
    if frames < needed:
        return Rejected(split, id, "filtered", f"{frames} frames are too few for a transcript that needs {needed}")
    facts = [samples, "".join(sorted(set(text)))]
    return Kept(split, id, {"transcript": text}, _media(content, suffix), content if compared else None, facts)


def _length(content: bytes) -> int:
    """Samples at the model's rate; a recording that is too long is read only until that is certain."""
    total = 0
    for block in _whole(blocks(content, CONFIG.sample_rate)):
        total += len(block)
        if total > CONFIG.max_samples:
            break
    if total == 0:
        raise DamagedItem("holds no sound")
    return total


def _whole(parts: Iterable[Block]) -> Iterator[Block]:
    """The same blocks; raises DamagedItem at the end of a recording that is not whole.

    What is left of one would do for listening, but its transcript speaks of all of it.
    """
    waiting = iter(parts)
    while True:
        with collect_remarks() as remarks:
            part = next(waiting, None)
        if remarks:
            raise DamagedItem("; ".join(remarks))
        if part is None:
            return
        yield part


def untranscribed(split: str, id: str, suffix: str, content: bytes) -> Iterator[Kept | Rejected]:
    """The items that a recording without transcript becomes: as it is, or as pieces of at most 20 seconds.

    A piece is 16-bit WAV at the model's rate, called ``id-0000`` and so on. Where the recording breaks off, the pieces
    before are sound, and what is lost is a row of its own.

    Args:
        split: its split.
        id: unique in the split.
        suffix: of the file, with the dot.
        content: the file's bytes.

    Raises:
        DamagedItem: the recording cannot be decoded or holds nothing.
    """
    config = CONFIG
    parts = _whole(blocks(content, config.sample_rate))
    pieces = windows(parts, config.max_samples, config.min_samples, config.sample_rate)
    first, second = next(pieces, None), next(pieces, None)
    if first is None:
        raise DamagedItem("holds no sound")
    if second is not None:
        yield from _cut(split, id, chain([first, second], pieces))
    elif len(first) < config.min_samples:
        yield Rejected(split, id, "filtered", "too short for one frame")
    else:
        yield Kept(split, id, {}, _media(content, suffix), content, [len(first), ""])


@dataclass(frozen=True)
class Part:
    """An utterance in a recording: its split, id and transcript, its start and end in seconds (infinite: the last)."""

    split: str
    id: str
    text: str
    start: float
    end: float

    @property
    def range(self) -> tuple[int, int]:
        """Start and end in samples. A part that is too long for an item ends a sample after the longest."""
        start, end = self.start * CONFIG.sample_rate, self.end * CONFIG.sample_rate
        return round(start), round(min(end, start + CONFIG.max_samples + 1))


def utterances(content: bytes, parts: Iterable[Part], folder: Path, compared: bool) -> Iterator[Kept | Rejected]:
    """The items that parts of a recording with their transcripts become, as 16-bit WAV at the model's rate.

    The recording is decoded once. What is cut waits in a file until all has been read: behind a place where something
    is missing the times are wrong.

    Args:
        content: the file's bytes.
        parts: in any order; they may overlap.
        folder: for the file.
        compared: whether later items of the same bytes shall be duplicates.

    Raises:
        DamagedItem: the recording cannot be decoded, or not all of it; nothing has been yielded then.
    """
    wanted = sorted(parts, key=lambda part: part.range)
    most = LONGEST_HOURS * 3600 * CONFIG.sample_rate
    lengths = np.cumsum([end - start for start, end in (part.range for part in wanted)])
    wanted, left = wanted[: (fitting := int((lengths <= most).sum()))], wanted[fitting:]
    with tempfile.TemporaryFile(dir=folder) as waiting:
        cut: dict[int, tuple[int, int, int]] = {}
        for place, samples in _stretches(_whole(blocks(content, CONFIG.sample_rate)), [part.range for part in wanted]):
            cut[place] = waiting.tell(), waiting.write(_wav(samples)), len(samples)
        for place, part in enumerate(wanted):
            start, size, length = cut[place]
            waiting.seek(start)
            yield _utterance(part, length, waiting.read(size), compared)
    for part in left:
        yield Rejected(part.split, part.id, "filtered", f"what follows after {LONGEST_HOURS} hours is left out")


def _utterance(part: Part, length: int, content: bytes, compared: bool) -> Kept | Rejected:
    """The item that a part becomes of which ``length`` samples are there."""
    start, end = part.range
    try:
        if length == 0:
            raise DamagedItem(f"begins at {part.start:g} s, where its recording has ended")
        if end - start - length > OVERSHOOT_SECONDS * CONFIG.sample_rate and part.end < math.inf:
            raise DamagedItem(
                f"ends at {part.end:g} s, and its recording at {(start + length) / CONFIG.sample_rate:.2f}"
            )
        return transcribed(part.split, part.id, ".wav", content, part.text, compared)
    except DamagedItem as error:
        return Rejected(part.split, part.id, "damaged", str(error))


def _stretches(found: Iterable[Block], ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, Block]]:
    """The places of ranges and their samples, each when it has been read; what is not there is missing at its end.

    Args:
        found: all samples.
        ranges: start and end, in order of the starts.
    """
    open: dict[int, list[Block]] = {}
    position = following = 0
    for block in found:
        end = position + len(block)
        while following < len(ranges) and ranges[following][0] < end:
            open[following] = []
            following += 1
        for place in list(open):
            first, last = ranges[place]
            open[place].append(block[max(0, first - position) : last - position])
            if last <= end:
                yield place, np.concatenate(open.pop(place))
        position = end
    for place in range(len(ranges)):
        if place in open or place >= following:
            yield place, np.concatenate([*open.get(place, ()), np.zeros(0, np.float32)])


def _cut(split: str, id: str, pieces: Iterator[Block]) -> Iterator[Kept | Rejected]:
    total = 0
    try:
        for number, piece in enumerate(pieces):
            content = _wav(piece)
            yield Kept(split, f"{id}-{number:04d}", {}, _media(content, ".wav"), content, [len(piece), ""])
            total += len(piece)
            if total > LONGEST_HOURS * 3600 * CONFIG.sample_rate:
                yield Rejected(split, id, "filtered", f"what follows after {LONGEST_HOURS} hours is left out")
                return
    except DamagedItem as error:
        raise DamagedItem(f"{error} (after {total / CONFIG.sample_rate:.0f} seconds, which are kept)") from error


def _wav(samples: Block) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), CONFIG.sample_rate, "PCM_16", format="WAV")
    return file.getvalue()


def _media(content: bytes, suffix: str) -> dict[str, tuple[bytes, str]]:
    return {"sound": (content, suffix)}


def suffix_of(name: str) -> str:
    """A recording's suffix as prepared sets write it."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix[1:].isalnum() and suffix.isascii() else ".bin"
