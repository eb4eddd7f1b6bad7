"""Recordings of any length to text and subtitles: windows, each transcribed by itself (paper §4.1, sound)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from skillnet_cli.api import DamagedItem, Reader, Source, Window, add_remark, collect_remarks
from skillnet_cli.data.pipeline import to_device
from skillnet_cli.inference.encoder import inferring
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig

BATCH_TOKENS = 1_024
"""Tokens that are transcribed at a time, a window of 20 seconds: at paper scale the convolutions take 0.3 GB for it."""


@dataclass(frozen=True)
class Passage:
    """What is spoken between two times, in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """The passages of one recording, in order; ``text`` is all of them."""

    passages: tuple[Passage, ...]
    text: str

    def to_srt(self) -> str:
        """SubRip: numbered passages, times with a comma before the milliseconds. Silent windows are left out."""
        return "\n".join(srt_cue(number, passage) for number, passage in enumerate(self._spoken(), start=1))

    def to_vtt(self) -> str:
        """WebVTT: a header, then the passages. Silent windows are left out."""
        return "\n".join([VTT_HEADER, *map(vtt_cue, self._spoken())])

    def _spoken(self) -> Iterator[Passage]:
        return (passage for passage in self.passages if passage.text)


VTT_HEADER = "WEBVTT\n"


def srt_cue(number: int, passage: Passage) -> str:
    """A passage as SubRip has it."""
    return f"{number}\n{_times(passage, ',')}\n{passage.text}\n"


def vtt_cue(passage: Passage) -> str:
    """A passage as WebVTT has it."""
    return f"{_times(passage, '.')}\n{_escaped(passage.text)}\n"


class Transcriber:
    """Transcribes recordings with one of a model's tasks, whose objective transcribes."""

    def __init__(
        self,
        model: SkillNet,
        readers: Mapping[str, Reader],
        task: TaskConfig,
        precision: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            model: it has the task.
            readers: the model's, by skill.
            task: its objective transcribes.
            precision: that of :func:`~skillnet_cli.inference.encoder.inferring`.
            batch_size: windows at a time; by default as many as have :data:`BATCH_TOKENS` tokens.
        """
        self.model = model
        self.precision = precision
        self.batch_size = batch_size
        self.task = task
        self.reader = readers[task.skills[0]]

    def transcribe(self, source: Source) -> Transcript:
        """The transcript of a recording, a passage a window.

        Raises:
            DamagedItem: it cannot be decoded, or holds nothing.
        """
        passages = tuple(self.passages(source))
        return Transcript(passages, self.joined(passage.text for passage in passages))

    def text(self, source: Source) -> str:
        """What is spoken in a recording, never empty.

        Raises:
            DamagedItem: it cannot be decoded, or nothing is spoken in it.
        """
        with collect_remarks() as remarks:
            text = self.transcribe(source).text
        if not text:
            raise DamagedItem("; ".join(["its transcript is empty", *remarks]))
        for remark in remarks:
            add_remark(remark)
        return text

    def joined(self, texts: Iterable[str]) -> str:
        """The texts of passages as one."""
        return self.between.join(text for text in texts if text)

    @property
    def between(self) -> str:
        """What stands between passages. Where labels have no space, as in Chinese, words run on over the edges."""
        return " " if " " in self.task.labels else ""

    def passages(self, source: Source) -> Iterator[Passage]:
        """The passages of a recording in order, each as soon as it is transcribed; windows without sound have none.

        No more than a batch of windows lies in memory.

        Raises:
            DamagedItem: it cannot be decoded, now or at a later passage, or holds nothing.
        """
        found = False
        batch: list[Window] = []
        room = BATCH_TOKENS
        for window in self.reader.split(source):
            found = True
            if window.features is None:
                continue
            length = self.reader.length(window.features)
            if batch and self.batch_size is None and length > room:
                yield from self._transcribe(batch)
                batch, room = [], BATCH_TOKENS
            batch.append(window)
            room -= length
            # No room for another like it: whoever waits for the text need not wait for the next.
            if room < length if self.batch_size is None else len(batch) == self.batch_size:
                yield from self._transcribe(batch)
                batch, room = [], BATCH_TOKENS
        if batch:
            yield from self._transcribe(batch)
        if not found:
            raise DamagedItem("it holds no sound")

    def _transcribe(self, windows: Sequence[Window]) -> list[Passage]:
        with inferring(self.model, self.precision):
            features = [window.features for window in windows if window.features is not None]
            collated = to_device(self.reader.collate(features), self.model.device)
            predicted = self.model.predict(self.task.name, [[collated]])
            texts = self.model.objectives[self.task.name].decode(predicted)
        return [Passage(window.start, window.end, text) for window, text in zip(windows, texts, strict=True)]


def _times(passage: Passage, mark: str) -> str:
    return f"{_clock(passage.start, mark)} --> {_clock(passage.end, mark)}"


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"


def _escaped(text: str) -> str:
    """Text in which WebVTT sees no tags of its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
