"""Made-up data for ``benchmarks/yardstick.py``: tables, and data sets in their publishers' layouts.

The same bytes every time with the same libraries. Nothing of skillnet is imported, so that its modules can move.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
import wave
import zipfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

COLOURS = ("红", "绿", "蓝", "黄")
DIGITS = "零一二三四五六七八九"
PARTS = ("train",) * 8 + ("dev",) * 3 + ("test",)
"""The part of each of a table's rows, over and over."""

ITEMS = 36
"""Rows of a table."""


def recording(seconds: float, seed: int, rate: int = 16_000, channels: int = 1) -> bytes:
    """Tones and noise, a new tone every tenth of a second, as WAV."""
    rng = np.random.default_rng(seed)
    pitches = np.repeat(rng.uniform(100, 3_000, int(np.ceil(seconds * 10))), rate // 10)[: round(seconds * rate)]
    sound = np.sin(2 * np.pi * np.cumsum(pitches) / rate) * 0.3 + rng.normal(0, 0.02, len(pitches))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((channels, 2, rate, 0, "NONE", ""))
        out.writeframes(np.repeat((sound * 32_767).clip(-32_768, 32_767).astype("<i2"), channels).tobytes())
    return file.getvalue()


def picture(number: int, format: str = "PNG", size: tuple[int, int] = (40, 32)) -> bytes:
    """A square of the number's colour in noise."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 64, (size[1], size[0], 3)).astype(np.uint8)
    pixels[8:24, 8:24, number % 3] = 200 + number % 50
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def clip(number: int, seconds: float = 2.0, rate: int = 6) -> bytes:
    """A square that moves, as MP4."""
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.codec_context.thread_count = 1
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for place in range(round(seconds * rate)):
            pixels = np.full((32, 48, 3), 7 * number % 200, dtype=np.uint8)
            pixels[8:24, place % 24 : place % 24 + 16, number % 3] = 230
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def caption(number: int) -> str:
    """What picture, clip or text of that number is."""
    return f"第{number}个{COLOURS[number % 4]}色的方块在{DIGITS[number % 10]}号桌上"


def spoken(number: int) -> str:
    """What is said in a recording."""
    return DIGITS[number % 10] + DIGITS[number * 7 % 10]


def function(number: int, docstring: str = "") -> str:
    """A function that is like no other."""
    lines = "\n".join(f"    step_{number}_{line} = call_{number * 7 + line}(x, {line})" for line in range(12))
    return f"def work_{number}(x):\n{docstring}{lines}\n    return step_{number}_{number % 12}\n"


def paragraph(number: int) -> str:
    """A passage of Chinese text."""
    return f"这是第{number}个足够长的段落，它讲的是编号为{number}的一件{COLOURS[number % 4]}色小事，没有别的内容。"


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """Files by their names in a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def zipped(files: Mapping[str, bytes | str]) -> bytes:
    """A zip of files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def tarred(files: Mapping[str, bytes | str], packed: bool = True) -> bytes:
    """A tar of files, in gzip or plain."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(file.getvalue(), mtime=0) if packed else file.getvalue()


def lines_of(rows: Sequence[Any]) -> str:
    """JSON lines; a text is a line as it is."""
    return "".join(f"{row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def separated(rows: Sequence[Sequence[object]], delimiter: str = ",") -> str:
    """A table of separated values."""
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows(rows)
    return file.getvalue()


def write_tables(folder: Path) -> None:
    """A table for each of the five tasks, in every format that tables have, and the files that they name."""
    part = [PARTS[number % len(PARTS)] for number in range(ITEMS)]
    names = range(ITEMS)
    texts = [("part", "text", "label"), *((part[n], caption(n), COLOURS[n % 4]) for n in names), ("train", "", "红")]
    write(folder, {"texts.csv": separated(texts)})

    speech: list[Any] = [{"sound": f"wav/{n}.wav", "transcript": spoken(n), "part": part[n]} for n in names]
    speech += [{"sound": f"wav/{name}.wav", "transcript": "一", "part": "train"} for name in ("missing", "broken")]
    wavs = {
        f"wav/{n}.wav": recording(0.4 + n % 7 * 0.1, n, (16_000, 8_000)[n % 9 == 4], 1 + (n % 5 == 3)) for n in names
    }
    write(folder, {"speech.jsonl": lines_of(speech), "wav/broken.wav": b"no sound", **wavs})

    kinds = [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")]
    pictures = {f"pictures/{n}.{kinds[n % 3][1]}": picture(n, kinds[n % 3][0]) for n in names}
    twice = [(file, text) for n, file in enumerate(pictures) for text in (caption(n), f"{COLOURS[n % 4]}方块{n}")]
    columns = {"file": [file for file, _ in twice], "caption": [text for _, text in twice]}
    write(folder, pictures)
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "pictures.parquet")

    clips = {f"clips/{n}.mp4": clip(n, 1.0 + n % 3 * 0.5) for n in names}
    rows = [("video", "text", "part"), *((file, caption(n), part[n]) for n, file in enumerate(clips))]
    write(folder, {"clips.tsv": separated(rows, "\t"), **clips})

    functions = [{"text": caption(n), "code": function(n), "part": part[n], "id": f"f{n}"} for n in names]
    write(folder, {"functions.jsonl": lines_of([*functions, functions[0]])})


def write_published(folder: Path) -> None:
    """Small data sets as their publishers lay them out, with some of what is wrong in real ones."""
    tnews: dict[str, list[Any]] = {
        "train": [{"label": str(100 + n % 5), "sentence": caption(n)} for n in range(40)] + ["{broken"],
        "dev": [{"label": 116, "sentence": "公告"}],
        "test": [{"id": 0, "sentence": "没有标签"}],
        "labels": [],
    }
    write(folder, {"tnews.zip": zipped({f"tnews_public/{name}.json": lines_of(rows) for name, rows in tnews.items()})})
    _write_text(folder / "text")
    _write_speech(folder)
    _write_pictures(folder)
    _write_clips(folder)
    _write_code(folder)


def _write_text(folder: Path) -> None:
    passages = ["\n".join(paragraph(number) for number in range(first, first + 40)) for first in range(0, 280, 20)]
    write(
        folder,
        {
            "a.txt": passages[0] + "\n短\n<b>标签</b> http://example.org 。。。。。。\n",
            "b.txt": passages[2].encode("gb18030"),
            "c.txt": passages[4].encode("utf-16"),
            "d.txt.gz": gzip.compress(passages[6].encode(), mtime=0),
            "e.txt.xz": lzma.compress(passages[8].encode()),
            "f.txt.bz2": bz2.compress(passages[10].encode()),
            "g.jsonl": lines_of([{"text": passages[12]}, {"no": 1}, {"content": passages[1]}]),
            "h.md": passages[3].encode() + "坏".encode()[:2],
            "i.png": b"no text",
        },
    )


def _write_speech(folder: Path) -> None:
    ids = [f"BAC009S000{n % 3 + 2}W0{121 + n}" for n in range(12)]
    split = {"S0002": "train", "S0003": "dev", "S0004": "test"}
    speakers: dict[str, dict[str, bytes | str]] = {}
    for n, name in enumerate(ids):
        speaker = name[6:11]
        speakers.setdefault(speaker, {})[f"{split[speaker]}/{speaker}/{name}.wav"] = recording(0.6, 100 + n)
    transcript = "".join(f"{name} {' '.join(spoken(n))}\n" for n, name in enumerate([*ids, "BAC009S0002W0999"]))
    tree: dict[str, bytes | str] = {"data_aishell/transcript/aishell_transcript_v0.8.txt": transcript}
    tree |= {f"data_aishell/wav/{name}.tar.gz": tarred(files) for name, files in speakers.items()}
    write(folder, {"data_aishell.tgz": tarred(tree)})
    write(folder / "own", {f"train/{n}.wav": recording(0.5 + n % 4, 200 + n) for n in range(10)})
    write(folder / "own", {"train/long.wav": recording(24, 220), "dev/x.wav": recording(1, 221), "dev/y.wav": b"none"})
    record = {"id": "1", "text": "先天 性心脏病", "file": "a1.wav", "length": "0.5"}
    wavs = [recording(0.6, 230 + n) for n in range(6)]
    presets: dict[str, dict[str, bytes | str]] = {
        "aidatatang-200zh": {
            "corpus/train/G0013.tar.gz": tarred({"./G0013/T0055G0013S0001.wav": wavs[0]}),
            "corpus/test/G0001.tar.gz": tarred({"./G0001/T0055G0001S0001.wav": wavs[1]}),
            "transcript/aidatatang_200_zh_transcript.txt": "T0055G0013S0001 以后 你 是\nT0055G0001S0001 你好\n",
        },
        "magicdata": {
            "train/5_541/5_541_20170607142131.wav": wavs[2],
            "train/TRANS.txt": "UtteranceID\tSpeakerID\tTranscription\n"
            "5_541_20170607142131.wav\t5_541\t[FIL] 打开， Ａ灯！\n",
        },
        "primewords": {
            "audio_files/a/a1/a1.wav": wavs[3],
            "set1_transcript.json": json.dumps([record, {**record, "file": "a3.wav"}], ensure_ascii=False),
        },
        "st-cmds": {
            "ST-CMDS-20170001_1-OS/20170001P00001A0001.wav": wavs[4],
            "ST-CMDS-20170001_1-OS/20170001P00001A0001.txt": "去爬山",
        },
        "thchs-30": {
            "data/A11_0.wav": wavs[5],
            "data/A11_0.wav.trn": "绿 是 阳春\nlv4 shi4\nl v4\n",
            "train/A11_0.wav.trn": "../data/A11_0.wav.trn",
        },
    }
    write(folder, {f"{name}.tar.gz": tarred(files) for name, files in presets.items()})


def _write_pictures(folder: Path) -> None:
    dates = {"train": ("20170902", 12), "validation": ("20170910", 9)}
    for split, (date, count) in dates.items():
        stem = f"ai_challenger_caption_{split}_{date}"
        entries = [{"image_id": f"{n}.jpg", "caption": [caption(n), f"另一句{n}"]} for n in range(count + 1)]
        files: dict[str, bytes | str] = {f"{stem}/caption_{split}_annotations_{date}.json": json.dumps(entries)}
        shift = 300 if split == "train" else 400
        files |= {
            f"{stem}/caption_{split}_images_{date}/{n}.jpg": picture(shift + n, "JPEG") if n != 5 else b"damaged"
            for n in range(count)
        }
        write(folder / "aic", {f"{stem}.zip": zipped(files)})
    rows = [("url", "caption"), *((f"http://example.org/{n}", caption(n) if n != 3 else "abc") for n in range(14))]
    write(folder / "wukong", {"wukong_100m_3.csv": separated(rows)})
    images = {f"003/{n:05d}.jpg": picture(500 + n, "JPEG", (300 + n, 280)) for n in range(12)}
    write(folder / "wukong-images", {**images, "003/00001.jpg": b"broken"})


def _write_clips(folder: Path) -> None:
    for split, count in (("training", 8), ("validation", 5)):
        entries = [
            {"videoID": f"{split[0]}{n}_000000_000010", "enCap": ["a clip"], "chCap": [caption(n), " "]}
            for n in range(count + 1)
        ]
        write(folder / "vatex", {f"vatex_{split}_v1.0.json": json.dumps(entries, ensure_ascii=False)})
    files: dict[str, bytes | str] = {f"clips/t{n}_000000_000010.mp4": clip(600 + n) for n in range(8)}
    files |= {f"clips/v{n}_000000_000010.mp4": clip(620 + n, 11.0) for n in range(4)}
    write(folder, {"clips.tar": tarred({**files, "clips/v4_000000_000010.mp4": b"none"}, packed=False)})
    head = ("videoid", "contentUrl", "duration", "page_dir", "name")
    rows = [(n, f"http://example.org/{n}", "PT00H00M01S", "000001_000050", f"a dog runs {n}") for n in range(9)]
    tables = {"results_2M_train.csv": separated([head, *rows[:7]]), "results_2M_val.csv": separated([head, *rows[7:]])}
    write(folder / "webvid", tables)
    write(folder / "webvid-clips", {f"000001_000050/{n}.mp4": clip(640 + n) if n != 2 else b"broken" for n in range(8)})


def _write_code(folder: Path) -> None:
    records: list[Any] = [
        {"repo": "a/b", "path": "c.py", "func_name": f"work_{n}", "language": "python", "code": function(n),
         "docstring": f"完成第{n}号工作", "licence": "MIT"}
        for n in range(60)
    ]  # fmt: skip
    records[7] = {**records[7], "docstring": "Open the door."}
    records[9] = {**records[9], "code": function(8)}
    for name, rows in (("train", [*records[:50], "{broken"]), ("valid", records[50:])):
        write(folder / "code", {f"{name}.jsonl.gz": gzip.compress(lines_of(rows).encode(), mtime=0)})
    functions = "\n\n".join(function(n, f'    """获取{DIGITS[n % 10]}的第{n}种行情数据"""\n') for n in range(100, 190))
    wheel = {"quotes/chinese.py": functions, "quotes-1.0.dist-info/METADATA": "Name: quotes\nVersion: 1.0\n"}
    write(folder, {"quotes-1.0-py3-none-any.whl": zipped(wheel)})
