"""Transcripts as subtitles: SubRip (srt) and WebVTT (vtt)."""

from __future__ import annotations

from skillnet_cli.inference.transcriber import Passage, Transcript


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
