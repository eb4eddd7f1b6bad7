"""``skillnet transcribe``: recordings to text."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skillnet_cli.api import DamagedItem, FailedJob, UserError
from skillnet_cli.cli.checkpoint import find_checkpoint
from skillnet_cli.cli.completion import task_names
from skillnet_cli.cli.options import AsJson, Checkpoint
from skillnet_cli.cli.output import print_json, remark

if TYPE_CHECKING:
    from skillnet_cli.inference.transcriber import Transcriber, Transcript


class Format(str, Enum):
    """How transcripts are written."""

    text = "text"
    srt = "srt"
    vtt = "vtt"
    json = "json"


def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings of any length.")],
    format_: Annotated[Format, typer.Option("--format", help="How to write the transcripts.")] = Format.text,
    task: Annotated[
        str | None,
        typer.Option(
            help="The task that transcribes, where the model has several.",
            autocompletion=task_names,
            show_default=False,
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """Write down what is said in recordings.

    Long ones are cut into windows at quiet points; subtitles have one passage a window.

    \b
    Examples:
      skillnet transcribe clip.wav
      skillnet transcribe talk.mp3 --format srt > talk.srt
      skillnet transcribe *.wav --json
    """
    wanted = Format.json if as_json else format_
    check(files, wanted)
    saved = find_checkpoint(checkpoint)

    from skillnet_cli.inference.skills import ctc_task
    from skillnet_cli.inference.transcriber import Transcriber

    chosen = ctc_task(saved.config, task)
    transcriber = Transcriber(*saved.open(tasks=[chosen.name]), chosen)
    transcripts, damaged = transcribe_all(transcriber, files)
    if wanted is Format.json:
        print_json({"model": saved.fingerprint, "transcripts": [row(*each) for each in transcripts.items()]})
    else:
        for file, transcript in transcripts.items():
            print(written(transcript, wanted, f"{file}: " if len(files) > 1 else ""))
    if damaged:
        raise FailedJob(f"{damaged} of {len(files)} files could not be read")


def check(files: list[Path], wanted: Format) -> None:
    """Raises UserError where a file is missing, or several would become one file of subtitles."""
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: there is no such file")
    if wanted in (Format.srt, Format.vtt) and len(files) > 1:
        raise UserError(f"--format {wanted.value} writes one recording at a time; {len(files)} are named")


def transcribe_all(transcriber: Transcriber, files: list[Path]) -> tuple[dict[Path, Transcript], int]:
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


def written(transcript: Transcript, wanted: Format, prefix: str) -> str:
    """A transcript in one of the formats for people and players."""
    from skillnet_cli.inference.subtitles import as_srt, as_vtt

    if wanted is Format.text:
        return prefix + transcript.text
    return {Format.srt: as_srt, Format.vtt: as_vtt}[wanted](transcript)


def row(file: Path, transcript: Transcript) -> dict[str, Any]:
    """A transcript for programs; times in seconds."""
    return {"path": str(file), "text": transcript.text, "passages": [asdict(each) for each in transcript.passages]}
