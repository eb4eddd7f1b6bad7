"""The page of a prepared set: whole in itself, with pictures, sounds and clips that can be decoded again."""

from __future__ import annotations

import base64
import io
import json
import re
import wave
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skillnet_cli.cli.app import run
from skillnet_cli.evaluation.report.html import POLICY
from skillnet_cli.prepare.writer import SetWriter
from tests.plugins.video.films import film, numbered

NASTY = '<script>alert("x")</script> & 中文'


def picture(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (level, 0, 0)).save(file, "PNG")
    return file.getvalue()


def tone(samples: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 16000, samples, "NONE", ""))
        out.writeframes((np.sin(np.arange(samples)) * 9000).astype("<i2").tobytes())
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with SetWriter(tmp_path / "mixed", name="mixed", licence="CC0 <and more>", choices={"rule": NASTY}) as writer:
        for number in range(30):
            fields = {"text": [f"{NASTY} {number}", "second"], "label": "ab"[number % 2], "seconds": number / 2}
            writer.keep("train", f"item {number}", fields, {"image": (picture(number * 8), ".png")})
        clip = film(numbered(9), 3)
        writer.keep(
            "test", "heard", {"code": "def f(): <br>"}, {"sound": (tone(8000), ".wav"), "video": (clip, ".mp4")}
        )
        writer.keep("test", "broken", {"code": "x"}, {"sound": (b"none", ".wav"), "video": (b"none", ".mp4")})
        writer.reject("train", "lost", "unavailable", "gone")
        writer.finish({"label": ["a", "b"]})
    return tmp_path / "mixed"


class Page(HTMLParser):
    """What a page holds: its elements, what they load, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_one_file_that_shows_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "page.html"
    assert run(["data", "show", str(folder), "--sample", "40", "--html", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("img") == 30 + 1 and page.tags.count("audio") == 1 and "script" not in page.tags
    assert f'content="{POLICY}"' in text.replace("&#x27;", "'")
    assert all(source.startswith("data:") for source in page.loads) and "url(" not in text and "@import" not in text
    assert sum(NASTY in word for word in page.words) == 30 + 1, "thirty captions, and the rule"
    assert sum("cannot be shown" in word for word in page.words) == 2
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) for source in page.loads if "image" in source
    ]
    assert {each.size for each in pictures} == {(40, 30), (4 * 96, 96)}
    assert {"image: bytes", "seconds", "text: characters", "unavailable 1"} <= {
        part for word in page.words for part in re.split(r", (?=\w+ \d)", word)
    }


def test_the_terminal_shows_numbers_and_items(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "show", str(folder), "--split", "train", "--sample", "2"]) == 0
    said = capsys.readouterr().out
    assert "30 train, 2 test" not in said and "1 unavailable left out" in said and "train (30 items)" in said
    assert "label: a 15, b 15" in said and re.search(r"seconds +0 +7\.25 +7\.25 +14\.5 +[▁▂▃▄▅▆▇█ ]+", said)
    assert said.count("\n- item ") == 2 and re.search(r"    image: \d+ bytes", said)


def test_programs_read_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "show", str(folder), "--sample", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {"test": 2, "train": 30} and found["fields"]["image"] == "bytes .png"
    train = found["shown"]["train"]
    assert train["labels"] == {"label": {"a": 15, "b": 15}} and train["spreads"]["seconds"]["largest"] == 14.5
    (item,) = train["sample"]
    assert item["image"]["bytes"] > 50 and item["text"][1] == "second"
