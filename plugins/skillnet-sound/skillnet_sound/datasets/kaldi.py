"""The layout of Kaldi, ESPnet and WeNet: a folder for each split, with ``text`` and ``wav.scp``.

``text`` has an utterance and its words a line, ``wav.scp`` an utterance and where its recording lies. The paths are
those of the machine that the folder was made on: a recording is the one of the sources whose path ends like it. A line
that ends in a bar is a command that writes the recording. Nothing is ever run: such a recording is not had. Where there
are ``segments``, an utterance is a part of a recording: its name, the recording's in ``wav.scp``, start and end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from skillnet_cli.data.format import Rejection
from skillnet_cli.prepare.preparer import Rejected
from skillnet_cli.sources.members import Member
from skillnet_cli.sources.texts import read_lines
from skillnet_sound.datasets.transcripts import Entry

TEXT, SCRIPT, SEGMENTS = "text", "wav.scp", "segments"
COMMAND = "its recording is the output of a command, and commands of data are not run: write it to a file"
CHANNEL = "it is of one channel of its recording, and channels are mixed here: write the channel to a file"
LATEST = 1e9
"""Seconds; no recording has a later part."""
LATEST = 1e9
"""Seconds; no recording has a later part."""
TO_THE_END = -1.0
"""Kaldi's end of a segment that ends with its recording."""


@dataclass(frozen=True)
class Segment:
    """An utterance that is a part of a recording.

    Attributes:
        id: the recording's path without its suffix, and the utterance.
        split: what the folder is called by, None where it is called otherwise.
        start: in seconds.
        end: in seconds; infinite where the recording ends with it.
    """

    id: str
    split: str | None
    start: float
    end: float


@dataclass
class Folder:
    """One folder that has a ``wav.scp``.

    Attributes:
        split: what the folder is called by, None where it is called otherwise.
        recordings: utterance, or recording that has segments -> its path among the sources.
        segments: utterance -> the path of its recording, and the part.
        refused: utterance -> the class and the reason why there is no recording of it.
        rejected: lines of ``segments`` that are none, or whose utterance has another one.
    """

    split: str | None
    recordings: dict[str, str] = field(default_factory=dict)
    segments: dict[str, tuple[str, Segment]] = field(default_factory=dict)
    refused: dict[str, tuple[Rejection, str]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)

    def renamed(self, entries: Iterable[Entry], rejected: list[Rejected]) -> Iterator[Entry]:
        """The entries of ``text`` with the path of the recording, without its suffix, in place of the utterance.

        Of a segment it is the segment's id.

        Args:
            entries: those of this folder's ``text``.
            rejected: takes those that have no recording.
        """
        left = {utterance for utterance, (why, _) in self.refused.items() if why == "damaged"}
        for entry in entries:
            if entry.damage:
                yield entry
            elif entry.id in self.refused:
                left.discard(entry.id)
                rejected.append(Rejected(self.split or "", entry.id, *self.refused[entry.id]))
            elif entry.id in self.segments:
                yield Entry(entry.place, self.segments[entry.id][1].id, entry.text)
            else:
                path = self.recordings.get(entry.id)
                yield Entry(entry.place, _stem(path), entry.text) if path else entry
        rejected += self.rejected
        rejected += [Rejected(self.split or "", utterance, *self.refused[utterance]) for utterance in sorted(left)]


def _stem(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def read_folder(
    script: Member, segments: Member | None, split: str | None, find: Callable[[str], str | None]
) -> Folder:
    """What a ``wav.scp`` says.

    Args:
        script: the file.
        segments: the file of that name beside it, if there is one.
        split: what the folder is called by.
        find: gives the path, among the sources, that ends like a path.
    """
    found = Folder(split)
    for line in read_lines(script):
        utterance, _, place = line.text.strip().partition(" ") if not line.damage else ("", "", "")
        utterance, place = (utterance, place) if place else utterance.partition("\t")[::2]
        place = place.strip()
        if place.endswith("|"):
            found.refused[utterance] = "unavailable", COMMAND
        elif place and (path := find(place)):
            found.recordings[utterance] = path
    for line in read_lines(segments) if segments else ():
        words = line.text.split()
        if line.damage:
            found.rejected.append(Rejected(split or "", f"{SEGMENTS}, line {line.number}", "damaged", line.damage))
        elif not words:
            continue
        elif words[0] in found.segments:
            found.rejected.append(Rejected(split or "", words[0], "duplicate", "another segment has this name"))
        else:
            _add_segment(found, words)
    return found


def _add_segment(found: Folder, words: Sequence[str]) -> None:
    """Take up a line of ``segments``: the utterance, the recording, start, end, and in rare ones a channel."""
    utterance, recording = words[0], words[1] if len(words) > 1 else ""
    times = _times(words[2:4])
    path = found.recordings.get(recording)
    if times is None:
        found.refused[utterance] = "damaged", f"'{' '.join(words[1:])}' is not a recording, its start and a later end"
    elif len(words) > 4:
        found.refused[utterance] = "unavailable", CHANNEL
    elif recording in found.refused:
        found.refused[utterance] = found.refused[recording]
    elif path is None:
        found.refused[utterance] = "unavailable", f"there is no recording '{recording}'"
    else:
        found.segments[utterance] = path, Segment(f"{_stem(path)}/{utterance}", found.split, *times)


def _times(words: Sequence[str]) -> tuple[float, float] | None:
    """Start and end in seconds, None where they are none."""
    try:
        start, end = map(float, words)
    except ValueError:
        return None
    end = math.inf if end == TO_THE_END else end
    return (start, end) if 0 <= start < end and start < LATEST else None


class PathEnds:
    """Finds the one of many paths that ends like a given one."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._by_name: dict[str, list[str]] = {}
        for path in paths:
            self._by_name.setdefault(PurePosixPath(path).name, []).append(path)

    def __call__(self, wanted: str) -> str | None:
        """The path that has the most folders in common with the end of ``wanted``; None where there is none, or two."""
        parts = PurePosixPath(wanted).parts[::-1]
        scored = (
            [(_common(PurePosixPath(path).parts[::-1], parts), path) for path in self._by_name.get(parts[0], ())]
            if parts
            else []
        )
        best = max((score for score, _ in scored), default=0)
        fitting = [path for score, path in scored if score == best]
        return fitting[0] if len(fitting) == 1 else None


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def splits_of(folders: Iterable[Folder]) -> dict[str, str]:
    """Recording -> the split that the folder whose ``wav.scp`` names it is called by."""
    return {path: folder.split for folder in folders if folder.split for path in folder.recordings.values()}


def segments_of(folders: Iterable[Folder]) -> dict[str, list[Segment]]:
    """Recording -> the utterances that are parts of it."""
    found: dict[str, list[Segment]] = {}
    for folder in folders:
        for path, segment in folder.segments.values():
            found.setdefault(path, []).append(segment)
    return found
