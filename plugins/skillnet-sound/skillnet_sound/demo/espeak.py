"""The eSpeak NG library, in a process of its own: it is not safe with threads, and may take its process with it.

Run as ``python -m skillnet_sound.demo.espeak``: reads a JSON object ``{"text", "voice", "rate", "pitch", "path"}`` a
line on standard input and writes each as a WAV file of 16 kHz, mono, 16 bit.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from skillnet_sound.frames import SAMPLE_RATE

SYNCHRONOUS, UTF8, CHARACTERS, RATE, PITCH = 2, 1, 1, 1, 3
"""AUDIO_OUTPUT_SYNCHRONOUS, espeakCHARS_UTF8, POS_CHARACTER, espeakRATE and espeakPITCH of speak_lib.h."""

Samples = np.ndarray[Any, np.dtype[np.float32]]
_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class _Espeak:
    """One synthesiser; the library has a single global state, so there must not be two in a process."""

    def __init__(self, library: str, data: str) -> None:
        self._library = ctypes.CDLL(library)
        self._parts: list[bytes] = []
        self.sample_rate: int = self._library.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(data), 0)
        if self.sample_rate <= 0:
            raise RuntimeError(f"espeak-ng found no voices in {data}")
        # Else the clock seeds the voices' noise. Some state also passes from one utterance to the next, so it takes
        # the same utterances in the same order to make the same bytes.
        self._call("espeak_ng_SetRandSeed", ctypes.c_long(1))
        self._callback = _SynthCallback(self._receive)  # kept: the library holds only the address
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, rate: int, pitch: int) -> Samples:
        """Speak ``text`` at ``rate`` words a minute and ``pitch`` 0 to 99: samples at :attr:`sample_rate`."""
        self._parts.clear()
        encoded = text.encode()
        self._call("espeak_SetVoiceByName", voice.encode())
        self._call("espeak_SetParameter", RATE, rate, 0)
        self._call("espeak_SetParameter", PITCH, pitch, 0)
        size = ctypes.c_size_t(len(encoded) + 1)
        self._call("espeak_Synth", encoded, size, 0, CHARACTERS, 0, UTF8, None, None)
        return np.frombuffer(b"".join(self._parts), dtype=np.int16) / np.float32(32_768)

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise RuntimeError(f"{function} returned {status}")

    def _receive(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count:
            self._parts.append(ctypes.string_at(samples, 2 * count))
        return 0


def _write_wav(samples: Samples, rate: int, path: Path) -> None:
    """Resample to 16 kHz and write 16-bit WAV."""
    resampled = soxr.resample(samples, rate, SAMPLE_RATE)
    soundfile.write(path, resampled, SAMPLE_RATE, "PCM_16", format="WAV")


def _serve(lines: Any, report: Callable[[str], object]) -> None:
    """Speak every line; ``report`` is called with the path of each file once it is written."""
    import espeakng_loader

    engine = _Espeak(espeakng_loader.get_library_path(), espeakng_loader.get_data_path())
    for line in lines:
        order = json.loads(line)
        path = Path(order.pop("path"))
        _write_wav(engine.say(**order), engine.sample_rate, path)
        report(str(path))


if __name__ == "__main__":
    _serve(sys.stdin, print)
