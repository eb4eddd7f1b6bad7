"""The formats of recordings: ROWS and RULES are the part of docs/formats.md on sounds; the tests hold what they say."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import NamedTuple

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from skillnet_cli.api import DamagedItem, collect_remarks
from skillnet_sound import SUFFIXES
from skillnet_sound.decode import blocks

RATE = 16_000


class Row(NamedTuple):
    """A format: its name, how its files are called, what is to be known, and ffmpeg's options for an example of it.

    ``example`` may also be a format of libsndfile; an empty one is a format that nothing here writes.
    """

    name: str
    suffixes: str
    remark: str = ""
    example: tuple[str, ...] = ()


_AMR = ("-ar", "8000", "-b:a", "12.2k")
ROWS: tuple[Row, ...] = (
    Row(
        "WAV",
        ".wav .wave .bwf .rf64",
        "with any codec; without a true length too, as recorders write into a pipe",
        ("-f", "wav"),
    ),
    Row("Wave64", ".w64", "", ("-f", "w64")),
    Row("FLAC", ".flac", "without a length too", ("-f", "flac")),
    Row("MPEG audio", ".mp3 .mp2 .mp1 .mpga", "with tags, cover and any rate; joined files as one", ("-f", "mp3")),
    Row(
        "Ogg",
        ".ogg .oga .opus .spx",
        "Vorbis, Opus, FLAC, Speex; chained streams as one",
        ("-f", "ogg", "-c:a", "libopus"),
    ),
    Row(
        "MP4 audio",
        ".m4a .m4b .m4r .3ga",
        "AAC, ALAC; fragmented ones too; without its table (moov) refused",
        ("-f", "ipod"),
    ),
    Row("AAC", ".aac .adts .latm .loas", "", ("-f", "adts")),
    Row("Matroska audio", ".mka .weba", "live streams without a length too", ("-f", "matroska", "-c:a", "libopus")),
    Row("Windows Media", ".wma .xwma", "", ("-f", "asf", "-c:a", "wmav2")),
    Row("AIFF", ".aif .aiff .aifc", "", ("-f", "aiff")),
    Row("Apple CAF", ".caf", "", ("-f", "caf")),
    Row("AU", ".au .snd", "", ("-f", "au")),
    Row(
        "AMR",
        ".amr .awb",
        "narrow and wide band; the SILK of WeChat and QQ, which is called so too, is refused",
        ("-f", "amr", *_AMR),
    ),
    Row("AC-3, E-AC-3", ".ac3 .eac3 .ec3", "", ("-f", "ac3")),
    Row("DTS", ".dts .dtshd", "", ("-f", "dts", "-c:a", "dca", "-strict", "-2")),
    Row("TrueHD, MLP", ".thd .mlp", "", ("-f", "truehd", "-c:a", "truehd", "-ar", "48000", "-strict", "-2")),
    Row("WavPack", ".wv", "", ("-f", "wv")),
    Row("TTA", ".tta", "", ("-f", "tta")),
    Row("Monkey's Audio, TAK, Musepack, Shorten, VQF", ".ape .tak .mpc .shn .vqf"),
    Row("Creative Voice", ".voc", "", ("-f", "voc")),
    Row("NIST Sphere", ".sph .nist", "", ("NIST",)),
    Row("SoX, IRCAM", ".sox .ircam .sf", "", ("-f", "sox")),
    Row("PARIS, Portable Voice, Sample Dump", ".paf .pvf .sds", "", ("PVF",)),
    Row("Amiga IFF", ".svx .8svx", "", ("SVX",)),
    Row("AVR, Psion", ".avr .wve", "", ("AVR",)),
    Row("HTK, FastTracker", ".htk .xi", "read by libsndfile, the rest by FFmpeg", ("HTK",)),
    Row("RealAudio, Sony OMA, QCELP, DSD", ".ra .oma .aa3 .qcp .dsf"),
    Row("LC3, ADX, Yamaha MMF, WSD, QOA", ".lc3 .adx .mmf .wsd .qoa", "", ("-f", "adx")),
    Row(
        "sound of videos",
        "",
        "of all containers above and of MXF, NUT, SWF: by `transcribe`, where they are named",
        ("-f", "matroska", "-c:a", "aac"),
    ),
)

RULES = """\
Read as the `ffmpeg` command reads them; the tests compare the numbers of samples.

* The track: the one marked as default, of these the one with the most channels, of these the first.
* Channels are mixed to their mean. A channel that has less than a thousandth of the loudest one's energy (30 dB below)
  is silent and left out; one whose correlation with the loudest is below -0.5 has the opposite polarity and is turned
  first. Both are measured without the channel's own mean, over all that was heard of the recording so far.
* Level: zero mean and unit variance, as wav2vec 2.0 has it, and one polarity: [model.md](model.md). What has nothing
  louder than -55 dB of full scale, in no tenth of a second, is silent. Where that lasts a second or a whole window, it
  is a window without text, and what is spoken before and after it is heard as if it came alone.
* An interrupted recording is used as far as it goes, damaged packets are left out, and gaps stay out: a remark says how
  many seconds there are. `prepare` counts such recordings as damaged, since a transcript speaks of the whole.
  Nothing shows it where a cut falls between packets and no length is stated: MPEG, AAC, AC-3, DTS, AMR, broadcasts,
  TrueHD, MLP, SWF, IRCAM, PARIS, Portable Voice, FastTracker.
* A stated length of nought, or beyond the end, ends nothing. Files of one format joined byte by byte are read as one,
  but of HTK, Shorten, Musepack 7, QOA, LC3, OMA and RealAudio 3 the first. Tags before and behind are none of it.
* Headerless samples and codecs (`.raw` `.pcm` `.gsm` `.g722`) are refused: nothing says that they are sound, or at
  which rate. So are playlists (`.m3u8` `.pls`), which name other files, and MIDI, which holds notes."""

_SNDFILE = set(soundfile.available_formats())


def test_r06_the_rows_have_every_suffix_that_is_claimed() -> None:
    listed = [suffix for row in ROWS for suffix in row.suffixes.split()]
    assert sorted(listed) == sorted(SUFFIXES) and len(set(listed)) == len(listed)


@pytest.fixture(scope="module")
def tone() -> bytes:
    """A second of a tone that begins and ends softly."""
    times = np.arange(RATE) / RATE
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.sin(2 * np.pi * 440 * times) * np.hanning(RATE), RATE, "PCM_16", format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("row", [row for row in ROWS if row.example], ids=lambda row: row.name)
def test_r06_an_example_of_each_format_is_read_whatever_it_is_called(row: Row, tone: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recording.txt"
    if row.example[0] in _SNDFILE:
        samples, rate = soundfile.read(io.BytesIO(tone))
        with path.open("wb") as file:
            soundfile.write(file, samples, rate, "PCM_16", format=row.example[0])
    else:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-i", "-", *row.example, str(path)]
        subprocess.run(command, input=tone, check=True)
    with collect_remarks() as remarks:
        heard = np.concatenate(list(blocks(path, RATE)))
    assert remarks == []
    assert abs(len(heard) - RATE) < 3_300
    spectrum = np.abs(np.fft.rfft(heard))
    assert abs(spectrum.argmax() * RATE / len(heard) - 440) < 5


@pytest.mark.parametrize(
    "content", [b"MThd\0\0\0\x06" + bytes(60), b"#EXTM3U\nfile:///etc/passwd\n", bytes(range(7, 250)) * 9]
)
def test_r06_what_is_refused(content: bytes) -> None:
    with pytest.raises(DamagedItem, match="cannot be decoded: it is"):
        list(blocks(content, RATE))
