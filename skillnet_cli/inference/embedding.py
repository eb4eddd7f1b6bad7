"""Puts files and items of prepared sets into a collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from skillnet_cli.api import DamagedItem, Reader, Source
from skillnet_cli.inference.encoder import Encoded, encode_sources
from skillnet_cli.inference.skills import ctc_task, query_skill, route_of
from skillnet_cli.inference.sources import Candidate
from skillnet_cli.inference.stores import Collection, Entry
from skillnet_cli.inference.transcriber import Transcriber
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.skillnet import SkillNet

AT_ONCE = 512
"""Candidates between two writes to the collection: an interrupted run loses no more than these."""


@dataclass
class Tally:
    """What became of the candidates: added and reused by skill, refused by skill, damaged by path with the reason."""

    added: Counter[str] = field(default_factory=Counter)
    reused: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    damaged: dict[str, str] = field(default_factory=dict)


@dataclass
class Embedding:
    """Embeds candidates with one model into one collection and keeps the tally.

    ``config`` is the whole model's, which says what its skills were trained for; ``model`` may have only those that the
    candidates need (:func:`skillnet_cli.inference.skills.needed_for`).
    """

    model: SkillNet
    readers: Mapping[str, Reader]
    config: SkillNetConfig
    collection: Collection
    tally: Tally = field(default_factory=Tally)

    def add(self, candidates: Iterable[Candidate]) -> Tally:
        """Embed what is not in the collection as it is now. Damaged and refused candidates are counted, not fatal."""
        known = self.collection.stamps()
        waiting = iter(candidates)
        while some := list(islice(waiting, AT_ONCE)):
            fresh = [(candidate, stamp) for candidate, stamp in self._stamped(some, known)]
            for skill in dict.fromkeys(candidate.skill for candidate, _ in fresh):
                self._add(skill, [pair for pair in fresh if pair[0].skill == skill])
        return self.tally

    def _stamped(self, candidates: Sequence[Candidate], known: Mapping[str, str]) -> Iterator[tuple[Candidate, str]]:
        for candidate in candidates:
            if route_of(self.config, candidate.skill) is None:
                self.tally.refused[candidate.skill] += 1
                continue
            try:
                stamp = candidate.stamp()
            except OSError as error:
                self.tally.damaged[candidate.path] = str(error)
                continue
            if known.get(candidate.path) == stamp:
                self.tally.reused[candidate.skill] += 1
            else:
                yield candidate, stamp

    def _add(self, skill: str, fresh: Sequence[tuple[Candidate, str]]) -> None:
        by = route_of(self.config, skill)
        texts = [candidate.text for candidate, _ in fresh]
        if by == "transcript":
            fresh, texts = self._transcribe(fresh)
            encoded = encode_sources(self.model, self.readers, query_skill(self.config), texts)
        else:
            sources = (candidate.source() for candidate, _ in fresh)
            encoded = encode_sources(self.model, self.readers, skill, sources)
        self._put(fresh, texts, encoded, by or "")

    def _transcribe(self, fresh: Sequence[tuple[Candidate, str]]) -> tuple[list[tuple[Candidate, str]], list[str]]:
        """The candidates in which something was heard, and what."""
        transcriber = Transcriber(self.model, self.readers, ctc_task(self.config))
        heard = []
        for candidate, stamp in fresh:
            try:
                text = _hear(transcriber, candidate.source())
                if not text:
                    raise DamagedItem("nothing was heard in it")
                heard.append(((candidate, stamp), text))
            except DamagedItem as error:
                self.tally.damaged[candidate.path] = str(error)
        return [pair for pair, _ in heard], [text for _, text in heard]

    def _put(self, fresh: Sequence[tuple[Candidate, str]], texts: Sequence[str], encoded: Encoded, by: str) -> None:
        entries = []
        for place in encoded.kept:
            candidate, stamp = fresh[place]
            entries.append(Entry(candidate.path, candidate.skill, stamp, texts[place], by))
            self.tally.added[candidate.skill] += 1
        self.tally.damaged.update((fresh[place][0].path, reason) for place, reason in encoded.damaged)
        self.collection.put(entries, encoded.vectors)


def _hear(transcriber: Transcriber, source: Source) -> str:
    if isinstance(source, Path):
        return transcriber.transcribe(source).text
    return transcriber.hear(transcriber.reader.read(source))
