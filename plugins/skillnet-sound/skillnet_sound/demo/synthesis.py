"""Speaks utterances through the synthesiser's process and leaves WAV files."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from skillnet_cli.api import FailedJob, UserError


@dataclass(frozen=True)
class Utterance:
    """A text, and how it is spoken: ``voice`` of eSpeak NG, ``rate`` in words a minute, ``pitch`` 0 to 99."""

    text: str
    voice: str
    rate: int
    pitch: int


def speak(utterances: Sequence[Utterance], folder: Path) -> Iterator[Path]:
    """Write each utterance to ``folder`` as ``00000.wav`` and so on, and yield its path when it is there.

    Raises:
        UserError: the synthesiser is not installed.
        FailedJob: its process ended early.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise UserError("the demo's speech needs espeakng-loader: pip install 'skillnet-sound[demo]'")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05}.wav" for number in range(len(utterances))]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as orders, tempfile.TemporaryFile("w+") as complaints:
        for utterance, path in zip(utterances, paths, strict=True):
            print(json.dumps({**vars(utterance), "path": str(path)}), file=orders)
        orders.seek(0)
        command = [sys.executable, "-u", "-m", "skillnet_sound.demo.espeak"]
        with subprocess.Popen(command, stdin=orders, stdout=subprocess.PIPE, stderr=complaints, text=True) as process:
            assert process.stdout is not None
            yield from (Path(line.rstrip("\n")) for line in process.stdout)
        if process.returncode != 0:
            complaints.seek(0)
            reason = (complaints.read().strip().splitlines() or ["no message"])[-1]
            raise FailedJob(f"the speech synthesiser ended with status {process.returncode}: {reason}")
