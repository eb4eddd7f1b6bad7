"""Recordings in galleries."""

from __future__ import annotations

import base64
import io

import soundfile

from skillnet_cli.api import Source
from skillnet_sound.config import SoundConfig
from skillnet_sound.reader import SoundReader


def player(source: Source) -> str:
    """An ``<audio>`` element that holds the first 20 seconds, as WAV whatever the source: every browser plays it.

    Raises:
        DamagedItem: it cannot be decoded.
    """
    config = SoundConfig()
    file = io.BytesIO()
    soundfile.write(file, SoundReader(config).decode(source), config.sample_rate, "PCM_16", format="WAV")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<audio controls preload="none" src="data:audio/wav;base64,{data}"></audio>'
