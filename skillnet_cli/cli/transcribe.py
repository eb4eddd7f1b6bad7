"""``skillnet transcribe``: recordings to text and subtitles."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.cli.checkpoint import find_checkpoint
from skillnet_cli.cli.common import AsJson, Checkpoint, complete, print_json, print_line, remark
from skillnet_cli.plugins import load_registry

if TYPE_CHECKING:
    from skillnet_cli.inference.transcriber import Transcriber, Transcript


class _Format(str, Enum):
    """The format of transcripts."""

    text = "text"
    srt = "srt"
    vtt = "vtt"
    json = "json"


def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings of any length.")],
    format_: Annotated[_Format, typer.Option("--format", help="Format of the transcripts.")] = _Format.text,
    task: Annotated[
        str | None,
        typer.Option(
            help="The task that transcribes, where the model has several.",
            autocompletion=complete("tasks"),
            show_default=False,
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """Transcribe recordings.

    Long recordings are cut into windows at quiet points; subtitles have one passage per window.

    \b
    Examples:
      skillnet transcribe clip.wav
      skillnet transcribe talk.mp3 --format srt > talk.srt
      skillnet transcribe *.wav --json
    """
    wanted = _Format.json if as_json else format_
    _check(files, wanted)
    saved = find_checkpoint(checkpoint)

    from skillnet_cli.inference.capabilities import Capabilities
    from skillnet_cli.inference.transcriber import Transcriber

    chosen = Capabilities(saved.config, load_registry()).transcribing_task(task)
    transcriber = Transcriber(*saved.open(tasks=[chosen.name]), chosen)
    transcripts, damaged = _transcribe_all(transcriber, files)
    if wanted is _Format.json:
        print_json({"model": saved.fingerprint, "transcripts": [_row(*each) for each in transcripts.items()]})
    else:
        for file, transcript in transcripts.items():
            print_line(_written(transcript, wanted, f"{file}: " if len(files) > 1 else ""))
    if damaged:
        raise FailedJob(f"{damaged} of {len(files)} files could not be read")


def _check(files: list[Path], wanted: _Format) -> None:
    """Raises UserError where a file is missing, or several would become one file of subtitles."""
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such file")
    if wanted in (_Format.srt, _Format.vtt) and len(files) > 1:
        raise UserError(f"--format {wanted.value} takes one recording at a time, and {len(files)} are named")


def _transcribe_all(transcriber: Transcriber, files: list[Path]) -> tuple[dict[Path, Transcript], int]:
    """The transcripts of the files that could be read, and how many could not; those are named on standard error.

    Raises:
        UserError: none could be read.
    """
    done: dict[Path, Transcript] = {}
    reasons: list[str] = []
    for file in files:
        try:
            done[file] = transcriber.transcribe(file)
        except DamagedItem as error:
            reasons.append(f"{file}: {error}")
    if not done:
        raise UserError("; ".join(reasons))
    for reason in reasons:
        remark(reason)
    return done, len(reasons)


def _written(transcript: Transcript, wanted: _Format, prefix: str) -> str:
    """A transcript as text or subtitles."""
    if wanted is _Format.text:
        return prefix + transcript.text
    return transcript.to_srt() if wanted is _Format.srt else transcript.to_vtt()


def _row(file: Path, transcript: Transcript) -> dict[str, Any]:
    """A transcript as JSON; times in seconds."""
    return {"path": str(file), "text": transcript.text, "passages": [asdict(each) for each in transcript.passages]}
