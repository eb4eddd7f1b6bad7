"""Recordings of any length to text and subtitles: windows, each transcribed by itself (paper §4.1, sound)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from skillnet_cli.api import DamagedItem, Reader, Source, Window
from skillnet_cli.data.pipeline import to_device
from skillnet_cli.inference.encoder import by_length, inferring
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig


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
        cues = enumerate(self._spoken(), start=1)
        return "\n".join(f"{number}\n{_times(passage, ',')}\n{passage.text}\n" for number, passage in cues)

    def to_vtt(self) -> str:
        """WebVTT: a header, then the passages. Silent windows are left out."""
        cues = (f"{_times(passage, '.')}\n{_escaped(passage.text)}\n" for passage in self._spoken())
        return "\n".join(["WEBVTT\n", *cues])

    def _spoken(self) -> Iterator[Passage]:
        return (passage for passage in self.passages if passage.text)


class Transcriber:
    """Transcribes recordings with one of a model's tasks, whose objective transcribes."""

    def __init__(
        self, model: SkillNet, readers: Mapping[str, Reader], task: TaskConfig, precision: str = "auto"
    ) -> None:
        """``readers`` are the model's, by skill; ``precision`` is that of :func:`inferring`."""
        self.model = model
        self.precision = precision
        self.task = task
        self.reader = readers[task.skills[0]]

    def transcribe(self, source: Source) -> Transcript:
        """The transcript of a recording: of a file a passage a window, of anything else one passage.

        Only files are cut into windows; other sources are items of prepared sets, which are as long as the model takes.

        Raises:
            DamagedItem: it cannot be decoded, or holds nothing.
        """
        if isinstance(source, Path):
            windows = self.reader.split(source)
        else:
            windows = iter([Window(0.0, 0.0, self.reader.read(source))])
        found: dict[int, Passage] = {}
        with inferring(self.model, self.precision):
            for batch in by_length(enumerate(windows), lambda item: self.reader.length(item[1].features)):
                collated = self.reader.collate([window.features for _, window in batch])
                predicted = self.model.predict(self.task.name, [[to_device(collated, self.model.device)]])
                texts = self.model.objectives[self.task.name].decode(predicted)
                for (position, window), text in zip(batch, texts, strict=True):
                    found[position] = Passage(window.start, window.end, text)
        if not found:
            raise DamagedItem("it holds no sound")
        passages = tuple(found[position] for position in sorted(found))
        # Where labels have no space, as in Chinese, words run on over the edges of windows.
        between = " " if " " in self.task.labels else ""
        return Transcript(passages, between.join(passage.text for passage in passages if passage.text))


def _times(passage: Passage, mark: str) -> str:
    return f"{_clock(passage.start, mark)} --> {_clock(passage.end, mark)}"


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"


def _escaped(text: str) -> str:
    """Text in which WebVTT sees no tags of its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
