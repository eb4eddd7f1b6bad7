"""``speech-corpus``: recordings of Mandarin, with transcripts for speech recognition or without for masked units.

The item is the recording, or a part of it that Kaldi's ``segments`` names. For ``asr`` it needs a transcript and has at
most 20 seconds; for ``units`` a longer recording is cut at quiet points, and neither transcripts nor segments are
looked at. What came in is accounted for from both sides: a recording without transcript and a transcript without
recording are both ``unavailable``, a line that is no transcript is ``damaged``, and one whose recording has a
transcript already is a ``duplicate``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.prepare.preparer import Items, Kept, Preparation, Preparer, Range, Rejected, Summary, checksum
from skillnet_cli.sources.members import Member
from skillnet_cli.sources.texts import read_lines
from skillnet_sound.datasets.kaldi import Segment
from skillnet_sound.datasets.layouts import Layout, layout_named
from skillnet_sound.datasets.recordings import CONFIG, Part, suffix_of, transcribed, untranscribed, utterances
from skillnet_sound.datasets.transcripts import Key, Transcripts, first_line, plain
from skillnet_sound.datasets.tree import ONLY, SpeechFiles, SpeechTree, is_recording, split_in

AT_ONCE = 500
"""Recordings a range, where they lie as files."""

ASSET = "vocab.txt"
TASK = "task"
TASKS = ("asr", "units")
NO_RECORDING = "there is no recording of it"
NO_TRANSCRIPT = "there is no transcript of it"


@dataclass
class Texts:
    """Where transcripts are looked up while recordings are read, and which have been found."""

    lists: Sequence[Transcripts]
    beside: Callable[[str], bytes | None]
    found: set[Key] = field(default_factory=set)

    def of_segment(self, id: str) -> str | None:
        """The transcript of a part of a recording, by its id; None if there is none."""
        for each in self.lists:
            if id in each.texts.get("", ()):
                self.found.add(("", id))
                return each["", id]
        return None

    def of(self, name: str) -> str | None:
        """The transcript of a recording, None if there is none. Raises DamagedItem if it cannot be read."""
        for each in self.lists:
            key = each.find(name)
            if key is not None:
                self.found.add(key)
                return each[key]
        content = self.beside(name)
        return None if content is None else first_line(content)


class SpeechCorpus(Preparer):
    """One range for each archive of recordings, for some hundreds of recordings that lie as files, and at the end for
    the transcripts that no recording is known for."""

    compared = True
    """Whether recordings of the same bytes are copies, of which the first is kept."""

    @classmethod
    def configure(cls, job: Preparation) -> Preparation:
        """With a preset: its publisher's files and licence."""
        preset = job.options.get("preset")
        layout = cls.layout_of(job)
        task = job.options.get("task")
        if task not in (None, *TASKS):
            raise UserError(f"--task: '{task}' is not one of {', '.join(TASKS)}")
        if preset is None:
            return job
        facts = {name: getattr(layout, name) for name in ("licence", "size", "url", "published", "obtain")}
        return replace(job, dataset=replace(job.dataset, **facts))

    @classmethod
    def layout_of(cls, job: Preparation) -> Layout:
        """How the corpus is laid out."""
        return layout_named(job.options.get("preset"))

    def spell(self, text: str) -> str:
        """A transcript as it is kept: without blanks, punctuation and marks."""
        return plain(text, self.layout.marks)

    @cached_property
    def layout(self) -> Layout:
        """How this corpus is laid out."""
        return self.layout_of(self.job)

    @cached_property
    def files(self) -> SpeechFiles:
        """The sources as one tree of files."""
        return SpeechFiles(self.job.paths, self.folder, self.layout)

    @cached_property
    def tree(self) -> SpeechTree:
        """The corpus's files by what they are."""
        return SpeechTree(self.files, self.layout)

    @cached_property
    def task(self) -> str:
        """What the set is for, as :meth:`setup` found it."""
        return (self.folder / TASK).read_text(encoding="utf-8")

    def setup(self) -> None:
        """Decide what the set is for (``asr`` where there are transcripts), and keep the characters as they are now."""
        if vocab := self.job.options.get("vocab"):
            (self.folder / ASSET).write_bytes(_write_characters(_read_characters(vocab)))
        spoken = not self.layout.by_folder or any(map(self.tree.sidecar, self.tree.names)) or any(self.tree.transcripts)
        task = self.job.options.get("task") or ("asr" if spoken else "units")
        if task == "asr":
            any(self.tree.transcripts)  # read now, since all ranges look their transcripts up in them
        (self.folder / TASK).write_text(task, encoding="utf-8")

    def ranges(self) -> Sequence[Range]:
        """Archives first, then files, split by split, then the transcripts that are left."""
        found = [*self._archives(), *self._files()]
        if not found:
            where = ", ".join(map(str, self.job.paths))
            raise UserError(f"{where}: no recordings of {self.layout.title} found: check --source")
        if self.task == "asr":
            texts = checksum(sorted(self.tree.lonely_sidecars()))
            found.append(Range("transcripts", {"silent": [list(key) for key in self._silent()], "texts": texts}))
        return found

    def bytes_needed(self) -> int:
        """Those of the recordings, which are kept as they are; archives are no smaller unpacked."""
        return sum(self.files.members[place].size for place in (*self.tree.recordings, *self.tree.archives))

    def _archives(self) -> Iterator[Range]:
        for place in self.tree.archives:
            leaf = self.files.members[place]
            split = self.tree.first_split(leaf)
            yield Range(leaf.name, {"archive": place}, (split,) if split else ())

    def _files(self) -> Iterator[Range]:
        def split(place: int) -> str:
            return self.tree.split_of(self.files.members[place].name)

        for name, places in groupby(sorted(self.tree.recordings, key=split), split):
            start = 0
            for some in self._at_once(places):
                # The names, so that a recording, its text or parts that have come or gone since make another range.
                names = [self.files.members[place].name for place in some]
                beside = [self.tree.sidecar(name) for name in names]
                segments = [(each.id, each.split, each.start, each.end) for of in names for each in self._segments(of)]
                payload = {"recordings": some, "named": checksum(names, beside, *segments)}
                splits = {name, *(split for _, split, _, _ in segments if split)}
                yield Range(f"{name} from {start}", payload, tuple(sorted(splits)))
                start += len(some)

    def _at_once(self, places: Iterable[int]) -> Iterator[list[int]]:
        """The recordings of a range: of all together some :data:`AT_ONCE` items."""
        some, items = list[int](), 0
        for place in places:
            some.append(place)
            items += 1 + len(self._segments(self.files.members[place].name))
            if items >= AT_ONCE:
                yield some
                some, items = [], 0
        if some:
            yield some

    def _segments(self, name: str) -> Sequence[Segment]:
        """The utterances that are parts of a recording; for masked units a recording is cut at quiet points."""
        return self.tree.segments.get(name, ()) if self.task == "asr" else ()

    def _silent(self) -> Iterator[Key]:
        """The transcripts in lists for which no range looks: those of archives by speakers are theirs."""
        lists = self.tree.transcripts
        leaves = [self.files.members[place] for place in self.tree.archives]
        names = self.tree.names
        speakers = {self.tree.speaker(leaf.name) for leaf in leaves} if self.layout.speaker else set()
        if not self.layout.speaker:
            names = [*names, *(name for leaf in leaves for name in self.tree.within(leaf)[0])]
        spoken = {key for name in names if (key := lists.find(name))}
        spoken |= {("", each.id) for name in names for each in self._segments(name)}
        return (key for key in lists if key not in spoken and self._speaker(key) not in speakers)

    def _speaker(self, key: Key) -> str | None:
        found = re.search(self.layout.speaker, key[1]) if self.layout.speaker else None
        return found[0] if found else None

    @cached_property
    def _by_speaker(self) -> Mapping[str, list[Key]]:
        found: dict[str, list[Key]] = {}
        lie = set(map(self.tree.transcripts.find, self.tree.names))
        for key in self.tree.transcripts:
            if key not in lie and (speaker := self._speaker(key)):
                found.setdefault(speaker, []).append(key)
        return found

    def read(self, range: Range) -> Iterator[Kept | Rejected]:
        """An item for every recording, and for every transcript without one."""
        payload = range.payload
        if "archive" in payload:
            yield from self._read_archive(self.files.members[payload["archive"]])
        elif "recordings" in payload:
            texts = Texts([self.tree.transcripts] if self.task == "asr" else [], self._beside)
            for place in payload["recordings"]:
                leaf = self.files.members[place]
                yield from self._items(leaf.name, leaf.read, texts, self._segments(leaf.name))
        else:
            yield from self.tree.transcripts.rejected
            yield from _silent(map(tuple, payload["silent"]))
            for name in self.tree.lonely_sidecars():
                yield Rejected("", name, "unavailable", NO_RECORDING)

    def _beside(self, name: str) -> bytes | None:
        sidecar = self.tree.sidecar(name)
        return self.files[sidecar].read() if sidecar else None

    def _read_archive(self, archive: Member) -> Iterator[Kept | Rejected]:
        texts, own = self._texts_of(archive)
        try:
            for member in self.files.read_archive(archive):
                name = f"{archive.name}/{member.name}"
                if is_recording(name):
                    yield from self._items(name, member.read, texts)
        except DamagedItem as error:
            yield Rejected("", archive.name, "damaged", str(error))
        if self.task == "asr":
            yield from own.rejected
            left = [*own, *self._by_speaker.get(self.tree.speaker(archive.name), ())]
            yield from _silent(key for key in left if key not in texts.found)

    def _texts_of(self, archive: Member) -> tuple[Texts, Transcripts]:
        """Where the transcripts of an archive's recordings are, and those of its own lists."""
        if self.task != "asr" or self.layout.speaker:
            return Texts([self.tree.transcripts], lambda name: None), Transcripts()
        _, own, beside = self.tree.within(archive)
        self.files.take_refused_within()  # they are counted when the recordings are read
        found = lambda name: next((beside[each] for each in self.tree.sidecars(name) if each in beside), None)  # noqa: E731
        return Texts([own, self.tree.transcripts], found), own

    def _items(
        self, name: str, read: Callable[[], bytes], texts: Texts, segments: Sequence[Segment] = ()
    ) -> Iterator[Kept | Rejected]:
        """What a recording becomes: an item, none, several pieces, or the utterances that are parts of it."""
        split, id, suffix = self.tree.split_of(name), self.id_of(name), suffix_of(name)
        if segments:
            yield from self._cut(name, split, read, texts, segments)
        try:
            if self.task == "units":
                yield from untranscribed(split, id, suffix, read())
                return
            text = texts.of(name)
            if text is not None:
                yield transcribed(split, id, suffix, read(), self.spell(text), self.compared)
            elif not segments:
                yield Rejected(split, id, "unavailable", NO_TRANSCRIPT)
        except DamagedItem as error:
            yield Rejected(split, id, "damaged", str(error))

    def _cut(
        self, name: str, split: str, read: Callable[[], bytes], texts: Texts, segments: Sequence[Segment]
    ) -> Iterator[Kept | Rejected]:
        wanted = []
        for each in segments:
            text = texts.of_segment(each.id)
            if text is None:
                yield Rejected(each.split or split, each.id, "unavailable", NO_TRANSCRIPT)
            else:
                wanted.append(Part(each.split or split, each.id, self.spell(text), each.start, each.end))
        try:
            yield from utterances(read(), wanted, self.folder, self.compared)
        except DamagedItem as error:
            yield from (Rejected(each.split, each.id, "damaged", str(error)) for each in wanted)

    def id_of(self, name: str) -> str:
        """A recording's id: its name, or its path where names may come twice."""
        path = PurePosixPath(name).with_suffix("")
        return str(path) if self.layout.by_folder else path.name

    def filter(self, items: Items) -> None:
        """With ``--vocab``: what is trained on must be spelt in its characters."""
        known = self._vocab()
        for item in items if known else ():
            unknown = "".join(sorted(set(item.facts[1]) - set(known)))
            if item.split == ONLY and unknown:
                items.reject(item.place, "filtered", f"'{unknown}' is not in the vocabulary")

    def _vocab(self) -> list[str]:
        return _read_characters(self.folder / ASSET) if self.job.options.get("vocab") else []

    def finish(self, items: Items, protocol: str | None) -> Summary:
        """How long the splits are, and for ``asr`` the characters: the vocabulary's, else those of train."""
        samples: Counter[str] = Counter()
        characters: dict[str, set[str]] = {}
        for item in items:
            samples[item.split] += item.facts[0]
            characters.setdefault(item.split, set()).update(item.facts[1])
        hours = {split: round(count / CONFIG.sample_rate / 3600, 2) for split, count in sorted(samples.items())}
        choices: dict[str, Any] = {"task": self.task, "longest seconds": CONFIG.max_seconds, "hours": hours}
        if self.task == "units":
            return Summary(choices=choices)
        spelt = self._vocab() or sorted(characters.get(ONLY) or set().union(*characters.values()))
        return Summary({"transcript": spelt}, choices, {ASSET: _write_characters(spelt)})


def _silent(keys: Iterable[Any]) -> Iterator[Rejected]:
    """A row for each transcript without recording."""
    for folder, id in keys:
        yield Rejected(split_in(f"{folder}/x") or "", f"{folder}/{id}" if folder else id, "unavailable", NO_RECORDING)


def _read_characters(path: Path) -> list[str]:
    """The characters that a file lists, one at the beginning of each line, in its order.

    What follows a blank (a number, say) is not looked at, and longer entries, such as marks for blanks and word-pieces,
    are passed over.

    Raises:
        UserError: the file cannot be read, is not text, or lists none.
    """
    found: dict[str, None] = {}
    for line in read_lines(path):
        if line.damage:
            raise UserError(f"--vocab {path}: {line.damage}")
        entry = line.text.split()[:1]
        if entry and len(entry[0]) == 1:
            found[entry[0]] = None
    if not found:
        raise UserError(f"--vocab {path}: it lists no characters: write one a line")
    return list(found)


def _write_characters(characters: Iterable[str]) -> bytes:
    """The content of a file that :func:`_read_characters` reads."""
    return "".join(f"{each}\n" for each in characters).encode()
