"""Small corpora of speech in their publishers' layouts, and recordings that are broken in every way."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.data.verify import verify
from skillnet_cli.plugins import resolve
from skillnet_cli.prepare.preparer import Preparation, Tolerance
from skillnet_cli.prepare.run import run
from skillnet_sound import skillnet_datasets

TEXTS = ("广州市 房地产 中介", "呼救 报警", "大量 资本", "京沪 两地", "一 百 米")


def wav(seconds: float, seed: int = 0, rate: int = 16_000) -> bytes:
    """White noise as 16-bit WAV."""
    file = io.BytesIO()
    samples = np.random.default_rng(seed).uniform(-0.1, 0.1, round(seconds * rate))
    soundfile.write(file, samples, rate, "PCM_16", format="WAV")
    return file.getvalue()


def packed(members: Mapping[str, bytes], mode: str = "w:gz") -> bytes:
    """A tar of files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def laid_out(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The files of a corpus in a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def aishell(speakers: Mapping[str, str], each: int = 3, seconds: float = 0.4) -> tuple[dict[str, bytes], list[str]]:
    """Recordings of AISHELL-1 by their path in the unpacked tree, speaker -> split; and the lines of its transcript."""
    files, lines = {}, []
    for speaker, split in speakers.items():
        for number in range(121, 121 + each):
            id = f"BAC009{speaker}W{number:04d}"
            files[f"{split}/{speaker}/{id}.wav"] = wav(seconds, seed=len(files))
            lines.append(f"{id} {TEXTS[len(lines) % len(TEXTS)]}")
    return files, lines


def aishell_tree(files: Mapping[str, bytes], lines: list[str]) -> dict[str, bytes]:
    """As AISHELL-1 is published: an archive a speaker."""
    speakers: dict[str, dict[str, bytes]] = {}
    for path, content in files.items():
        speakers.setdefault(path.split("/")[1], {})[path] = content
    tree = {"data_aishell/transcript/aishell_transcript_v0.8.txt": "".join(f"{line}\n" for line in lines).encode()}
    return tree | {f"data_aishell/wav/{name}.tar.gz": packed(members) for name, members in speakers.items()}


def prepare(name: str, source: Path | tuple[Path, ...], out: Path, **more: object) -> PreparedSet:
    """The set that ``skillnet prepare`` makes of a source."""
    dataset = next(each for each in skillnet_datasets() if each.name == name)
    sources = tuple(map(str, source)) if isinstance(source, tuple) else (str(source),)
    options = {option.name: option.absent for option in dataset.options} | dict(more.pop("options", {}))  # type: ignore[call-overload]
    given = {"tolerance": Tolerance(damaged=None), "options": options, **more}
    run(resolve(dataset.prepare), Preparation(dataset, sources, out, **given))  # type: ignore[arg-type]
    made = PreparedSet.open(out)
    assert not list(verify(made.path))
    assert sum(made.manifest.ledger.values()) == len((out / "ledger.jsonl").read_text().splitlines())
    return made


def broken_recordings() -> dict[str, bytes]:
    """Recordings that are none, by what is wrong with them."""
    whole = wav(1.0)

    def header(**changes: int) -> bytes:
        rate, channels, bits = changes.get("rate", 16_000), changes.get("channels", 1), changes.get("bits", 16)
        fields = struct.pack("<HHIIHH", 1, channels, rate, (rate * 2) & 0xFFFFFFFF, 2, bits)
        return whole[:20] + fields + whole[36:]

    def encoded(samples: np.ndarray, format: str, subtype: str | None = None) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, samples, 16_000, subtype, format=format)
        return file.getvalue()

    noise = np.random.default_rng(1).uniform(-0.1, 0.1, 16_000)
    spoilt = np.where(np.arange(16_000) == 9_000, np.nan, noise)
    endless = np.where(np.arange(16_000) == 100, np.inf, noise)
    flac, ogg = encoded(noise, "FLAC"), encoded(noise, "OGG")
    return {
        "empty.wav": b"",
        "text.wav": "这不是录音".encode(),
        "page.mp3": b"<html><body>404 Not Found</body></html>",
        "zeros.wav": bytes(5_000),
        "header-only.wav": whole[:44],
        "half-a-header.wav": whole[:20],
        "cut.wav": whole[: len(whole) // 2],
        "no-samples.wav": wav(0),
        "not-a-number.wav": encoded(spoilt, "WAV", "FLOAT"),
        "infinite.wav": encoded(endless, "WAV", "DOUBLE"),
        "rate-0.wav": header(rate=0),
        "rate-4-billion.wav": header(rate=4_000_000_000),
        "rate-7.wav": header(rate=7),
        "channels-0.wav": header(channels=0),
        "cut.flac": flac[: len(flac) // 2],
        "cut-early.flac": flac[:60],
        "noise.flac": flac[:42] + bytes(range(256)) * 20,
        "cut.ogg": ogg[:100],
        "picture.wav": b"\x89PNG\r\n\x1a\n" + bytes(200),
        "archive.mp3": packed({"x": b"y"}),
        "random.mp3": np.random.default_rng(2).bytes(4_000),
        "random.m4a": b"\0\0\0 ftypM4A " + np.random.default_rng(3).bytes(4_000),
        "playlist.m4a": b"#EXTM3U\n/etc/passwd\n",
        "link.wav": b"../dev/x.wav",
    }
