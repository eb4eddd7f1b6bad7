"""Recordings of any length to text and subtitles: windows, greedy decoding of CTC (paper §4.1, sound)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skillnet_cli.api import DamagedItem, Features, Reader, Window
from skillnet_cli.inference.encoder import by_length, inferring, to_device
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.objectives import TaskConfig


@dataclass(frozen=True)
class Passage:
    """What was said between two times, in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """The passages of one recording, in order; ``text`` is all of them."""

    passages: tuple[Passage, ...]
    text: str


class Transcriber:
    """Transcribes files with one task of a model that transcribes."""

    def __init__(self, model: SkillNet, readers: Mapping[str, Reader], task: TaskConfig) -> None:
        self.model = model
        self.task = task
        self.skill = task.skills[0]
        self.reader = readers[self.skill]

    def transcribe(self, path: Path) -> Transcript:
        """The transcript of a file, a passage a window.

        Raises:
            DamagedItem: the file cannot be decoded, or holds nothing.
        """
        texts: dict[int, Passage] = {}
        windows = enumerate(self.reader.split(path))
        with inferring(self.model):
            for batch in by_length(windows, lambda item: self.reader.length(item[1].features)):
                heard = self._hear([window for _, window in batch])
                texts.update(zip((position for position, _ in batch), heard, strict=True))
        passages = tuple(texts[position] for position in sorted(texts))
        if not passages:
            raise DamagedItem("it holds no sound")
        return Transcript(passages, self._join(passage.text for passage in passages))

    def hear(self, features: Features) -> str:
        """The transcript of one recording that is short enough for the model, as its reader read it."""
        with inferring(self.model):
            return self._hear([Window(0.0, 0.0, features)])[0].text

    def _hear(self, windows: Sequence[Window]) -> list[Passage]:
        batch = self.reader.collate([window.features for window in windows])
        predicted = self.model.predict(self.task.name, [[to_device(batch, self.model.device)]])
        texts = self.model.objectives[self.task.name].decode(predicted)
        return [Passage(window.start, window.end, text) for window, text in zip(windows, texts, strict=True)]

    def _join(self, texts: Iterable[str]) -> str:
        between = " " if " " in self.task.labels else ""
        return between.join(text for text in texts if text)


def as_srt(transcript: Transcript) -> str:
    """SubRip: numbered passages, times with a comma before the milliseconds. Silent windows are left out."""
    cues = [f"{number}\n{_times(passage, ',')}\n{passage.text}\n" for number, passage in _spoken(transcript)]
    return "\n".join(cues)


def as_vtt(transcript: Transcript) -> str:
    """WebVTT: a header, then the passages. Silent windows are left out."""
    cues = [f"{_times(passage, '.')}\n{_escaped(passage.text)}\n" for _, passage in _spoken(transcript)]
    return "\n".join(["WEBVTT\n", *cues])


def _spoken(transcript: Transcript) -> list[tuple[int, Passage]]:
    return list(enumerate((passage for passage in transcript.passages if passage.text), start=1))


def _times(passage: Passage, mark: str) -> str:
    return f"{_clock(passage.start, mark)} --> {_clock(passage.end, mark)}"


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
