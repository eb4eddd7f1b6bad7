"""A corpus as a preparer sees it: which files are recordings, which archives hold some, and of which split they are."""

from __future__ import annotations

import fnmatch
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from skillnet_cli.api import DamagedItem
from skillnet_cli.sources.archives import FileTree
from skillnet_cli.sources.members import READ_ERRORS, Member, open_file
from skillnet_cli.sources.tars import streamed_tar_members
from skillnet_sound import SUFFIXES
from skillnet_sound.datasets import kaldi
from skillnet_sound.datasets.layouts import Layout
from skillnet_sound.datasets.transcripts import Entry, Transcripts, entries_of, folder_of

ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar", ".zip")
SPLITS = {name: name for name in ("train", "dev", "test")} | dict.fromkeys(("valid", "validation", "val"), "dev")
LOOKED_AT = 10_000
"""Members of an archive that are looked at to see what it holds."""
ONLY = "train"
"""The split of what lies in no folder called by one."""


def _expanded(paths: Sequence[Path], layout: Layout) -> list[Path]:
    """The sources, where a folder that holds the published archives stands for these."""
    published = [PurePosixPath(each.url).name for each in layout.published]
    found: list[Path] = []
    for path in paths:
        there = [path / name for name in published if (path / name).is_file()] if path.is_dir() else []
        found += there or [path]
    return found


class SpeechFiles(FileTree):
    """The sources of a corpus. Links that only name the recordings of a split are not reported as refused.

    Args:
        paths: local folders and archives; a folder that holds the published archives stands for these.
        folder: for what must be unpacked.
        layout: of the corpus.
    """

    def __init__(self, paths: Sequence[Path], folder: Path, layout: Layout) -> None:
        super().__init__(_expanded(paths, layout), folder)
        self._layout = layout

    def opens(self, archive: Path) -> bool:
        """Whether it is a published archive, or one that holds the archives of speakers."""
        published = {PurePosixPath(each.url).name for each in self._layout.published}
        return archive.name in published or _holds_archives(archive)

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Path and reason of what the sources hold and is not read."""
        return [each for each in self.all_refused if not (self._layout.splits_named and split_in(each[0]))]

    @property
    def all_refused(self) -> list[tuple[str, str]]:
        """The same with the links."""
        return super().refused


class SpeechTree:
    """The files of a corpus by what they are; files are meant by their places among all."""

    def __init__(self, files: SpeechFiles, layout: Layout) -> None:
        self.files = files
        self.layout = layout

    @cached_property
    def recordings(self) -> list[int]:
        """The recordings that lie as files."""
        wanted = self.layout.recordings
        return [
            place
            for place, leaf in enumerate(self.files.members)
            if is_recording(leaf.name) and (not wanted or any(_fits(leaf.name, pattern) for pattern in wanted))
        ]

    @property
    def names(self) -> list[str]:
        """Their paths."""
        return [self.files.members[place].name for place in self.recordings]

    @cached_property
    def archives(self) -> list[int]:
        """The archives in the archive, or in the folder."""
        return [place for place, leaf in enumerate(self.files.members) if leaf.name.lower().endswith(ARCHIVES)]

    @cached_property
    def transcripts(self) -> Transcripts:
        """The contents of all lists of transcripts, by folder if the layout is :data:`ANY`."""
        found = Transcripts()
        for pattern, format in self.layout.lists.items():
            for leaf in self.files.named(pattern):
                self._add_list(found, leaf, format)
        return found

    def _add_list(self, found: Transcripts, leaf: Member, format: str) -> None:
        folder = folder_of(leaf.name)
        if PurePosixPath(leaf.name).name == kaldi.TEXT and folder in self._kaldi:
            entries = entries_of(leaf, format)
            found.add("", self._kaldi[folder].renamed(entries, found.rejected))
        else:
            scope = self.scope(leaf.name)
            found.add(scope, entries_of(leaf, format, lambda name: self._is_name(scope, name)))

    def _is_name(self, folder: str, name: str) -> bool:
        """Whether a recording is called so, by its path from the folder or by its own name."""
        return self.layout.by_folder and (
            name in self._stems or (f"{folder}/{name}" if folder else name) in self._paths
        )

    @cached_property
    def _paths(self) -> set[str]:
        return {str(PurePosixPath(name).with_suffix("")) for name in self.names}

    @cached_property
    def _stems(self) -> set[str]:
        return {PurePosixPath(name).stem for name in self.names}

    @cached_property
    def _kaldi(self) -> dict[str, kaldi.Folder]:
        """The folders in Kaldi's layout."""
        if not self.layout.by_folder:
            return {}
        find = kaldi.PathEnds(self.names)
        found = {}
        for leaf in self.files.named(kaldi.SCRIPT):
            folder = folder_of(leaf.name)
            segments = [each for each in self.files.named(kaldi.SEGMENTS) if folder_of(each.name) == folder]
            found[folder] = kaldi.read_folder(leaf, segments[0] if segments else None, split_in(leaf.name), find)
        return found

    def scope(self, name: str) -> str:
        """The folder whose recordings a list of transcripts is for."""
        return folder_of(name) if self.layout.by_folder else ""

    def sidecar(self, name: str) -> str | None:
        """The path of the text beside a recording, if there is one."""
        return next((each for each in self.sidecars(name) if each in self.files), None)

    def sidecars(self, name: str) -> Iterator[str]:
        """The paths that the text beside a recording may have."""
        stem = str(PurePosixPath(name).with_suffix(""))
        return (pattern.format(name=name, stem=stem) for pattern in self.layout.sidecars)

    def lonely_sidecars(self) -> Iterator[str]:
        """Texts without their recording, in folders where other recordings have one."""
        used = {sidecar for name in self.names if (sidecar := self.sidecar(name))}
        folders = {folder_of(name) for name in used}
        suffixes = tuple(pattern.partition("}")[2] for pattern in self.layout.sidecars)
        for leaf in self.files.members:
            if leaf.name.endswith(suffixes) and leaf.name not in used and folder_of(leaf.name) in folders:
                yield leaf.name

    def split_of(self, name: str) -> str:
        """The split of a recording: what a folder above it is called by."""
        named = self._named_splits.get(PurePosixPath(name).stem) or self._kaldi_splits.get(name)
        return named or split_in(name) or ONLY

    @cached_property
    def _kaldi_splits(self) -> dict[str, str]:
        return kaldi.splits_of(self._kaldi.values())

    @cached_property
    def segments(self) -> dict[str, list[kaldi.Segment]]:
        """Recording -> the utterances that Kaldi's ``segments`` cut from it."""
        return kaldi.segments_of(self._kaldi.values())

    @cached_property
    def _named_splits(self) -> dict[str, str]:
        """Recording -> split, where folders name the recordings of a split and do not hold them."""
        if not self.layout.splits_named:
            return {}
        names = [leaf.name for leaf in self.files.members] + [name for name, _ in self.files.all_refused]
        found = ((PurePosixPath(name).name.partition(".")[0], split_in(name)) for name in names)
        return {stem: split for stem, split in found if split}

    def speaker(self, archive: str) -> str:
        """The speaker whose recordings an archive holds, where archives are called by speakers."""
        return PurePosixPath(archive).name.partition(".")[0]

    def first_split(self, archive: Member) -> str | None:
        """The split of the first recording in a compressed tar, None if its beginning does not show it."""
        if split := split_in(archive.name):
            return split
        try:
            with archive.open() as file:
                names = (member.name for member in streamed_tar_members(file, _pass_over))
                return next((split_in(name) for name in names if is_recording(name)), None)
        except READ_ERRORS:
            pass
        return None

    def within(self, archive: Member) -> tuple[set[str], Transcripts, dict[str, bytes]]:
        """The recordings of an archive, its lists of transcripts, and the texts beside its recordings by path."""
        names: set[str] = set()
        texts: dict[str, bytes] = {}
        contents: list[tuple[str, bytes | DamagedItem, str]] = []
        sidecars = tuple(pattern.partition("}")[2] for pattern in self.layout.sidecars)
        try:
            for member in self.files.read_archive(archive):
                name = f"{archive.name}/{member.name}"
                if is_recording(name):
                    names.add(name)
                elif format := self._format(name):
                    contents.append((name, _content(member.read), format))
                elif name.endswith(sidecars):
                    texts[name] = member.read()
        except DamagedItem:
            pass  # reported when the recordings are read
        lists = Transcripts()
        known = {
            stem for name in names for stem in (PurePosixPath(name).stem, str(PurePosixPath(name).with_suffix("")))
        }
        for name, content, format in contents:  # now that all the recordings' names are known
            scope = self.scope(name)
            lists.add(scope, _entries(name, content, format, lambda each: each in known or f"{scope}/{each}" in known))  # noqa: B023
        return names, lists, texts

    def _format(self, name: str) -> str | None:
        return next((format for pattern, format in self.layout.lists.items() if _fits(name, pattern)), None)


def _pass_over(name: str, reason: str) -> None:
    """What is not read is reported when the archive itself is read."""


def _holds_archives(archive: Path) -> bool:
    """Whether a compressed tar has archives in it rather than recordings, as far as its beginning shows."""
    try:
        with open_file(archive) as file:
            for member in itertools.islice(streamed_tar_members(file, _pass_over), LOOKED_AT):
                if is_recording(member.name):
                    return False
                if member.name.lower().endswith(ARCHIVES):
                    return True
    except READ_ERRORS:
        pass  # reported when it is read
    return False


def is_recording(name: str) -> bool:
    """Whether a file is called like a recording."""
    return name.lower().endswith(SUFFIXES)


def split_in(name: str) -> str | None:
    """The split that a path names, by its innermost folder that is called like one."""
    folders = (folder.lower().partition(".")[0] for folder in reversed(PurePosixPath(name).parent.parts))
    return next((SPLITS[folder] for folder in folders if folder in SPLITS), None)


def _content(read: Callable[[], bytes]) -> bytes | DamagedItem:
    try:
        return read()
    except DamagedItem as error:
        return error


def _entries(name: str, content: bytes | DamagedItem, format: str, known: Callable[[str], bool]) -> Iterator[Entry]:
    if isinstance(content, DamagedItem):
        yield Entry(name, damage=str(content))
        return
    yield from entries_of(Member(name, len(content), lambda: io.BytesIO(content)), format, known)


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"*/{pattern}")
