"""The layout of Kaldi, ESPnet and WeNet: a folder for each split, with ``text`` and ``wav.scp``.

``text`` has an utterance and its words a line, ``wav.scp`` an utterance and where its recording lies. The paths are
those of the machine that the folder was made on: a recording is the one of the sources whose path ends like it. A line
that ends in a bar is a command that writes the recording. Nothing is ever run: such a recording is not had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from skillnet_cli.prepare.preparer import Rejected
from skillnet_cli.sources.members import Member
from skillnet_cli.sources.texts import read_lines
from skillnet_sound.datasets.transcripts import Entry

TEXT, SCRIPT, SEGMENTS = "text", "wav.scp", "segments"
COMMAND = "its recording is the output of a command, and commands of data are not run: write it to a file"
SEGMENT = "it is a part of a recording, and parts are not cut out: make files of them"


@dataclass
class Folder:
    """One folder that has a ``wav.scp``.

    Attributes:
        recordings: utterance -> the path of its recording among the sources.
        refused: utterance -> why there is no recording of it.
    """

    recordings: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def renamed(self, entries: Iterable[Entry], split: str, rejected: list[Rejected]) -> Iterator[Entry]:
        """The entries of ``text`` with the path of the recording, without its suffix, in place of the utterance.

        Args:
            entries: those of this folder's ``text``.
            split: of the folder.
            rejected: takes those that have no recording.
        """
        for entry in entries:
            if entry.damage or entry.id not in self.refused:
                path = self.recordings.get(entry.id)
                yield Entry(entry.place, str(PurePosixPath(path).with_suffix("")), entry.text) if path else entry
            else:
                rejected.append(Rejected(split, entry.id, "unavailable", self.refused[entry.id]))


def read_folder(script: Member, segments: Member | None, find: Callable[[str], str | None]) -> Folder:
    """What a ``wav.scp`` says.

    Args:
        script: the file.
        segments: the file of that name beside it, if there is one.
        find: gives the path, among the sources, that ends like a path.
    """
    found = Folder()
    for line in read_lines(script):
        utterance, _, place = line.text.strip().partition(" ") if not line.damage else ("", "", "")
        utterance, place = (utterance, place) if place else utterance.partition("\t")[::2]
        place = place.strip()
        if place.endswith("|"):
            found.refused[utterance] = COMMAND
        elif place and (path := find(place)):
            found.recordings[utterance] = path
    if segments is not None:
        for line in read_lines(segments):
            if not line.damage and line.text.strip():
                found.refused[line.text.split()[0]] = SEGMENT
    return found


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


def splits_of(folders: Mapping[str, Folder], split_of: Callable[[str], str | None]) -> dict[str, str]:
    """Recording -> the split that the folder whose ``wav.scp`` names it is called by."""
    found: dict[str, str] = {}
    for name, folder in folders.items():
        split = split_of(f"{name}/x")
        if split:
            found.update(dict.fromkeys(folder.recordings.values(), split))
    return found
