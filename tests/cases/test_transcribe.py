"""``skillnet transcribe``: what may be named, what appears when, and what is said."""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.api import Window, add_remark
from tests.inference.world import World

SPOKEN = b"abcabcuvwxyz"


def _reader() -> Any:
    """The class that reads ``.hum``, of the plugin that the world has."""
    return importlib.import_module("bytes_parts").BytesReader


@pytest.fixture
def trained(world: World) -> World:
    world.save_run()
    for name in ("a.hum", "b.hum"):
        (world.folder / name).write_bytes(SPOKEN)
    return world


def test_m04_a_folder_is_the_recordings_in_it(trained: World) -> None:
    inside = trained.folder / "in"
    (inside / "deep").mkdir(parents=True)
    for name in ("1.hum", "deep/2.hum", "x.shape", "notes.docx", ".hidden.hum"):
        (inside / name).write_bytes(SPOKEN)
    answer = trained.answer("transcribe", "in", "a.hum")
    assert [row["path"] for row in answer["transcripts"]] == ["in/1.hum", "in/deep/2.hum", "a.hum"]
    assert answer["left_out"] == {".docx": 1, "hidden": 1, ".shape": 1}
    said = trained.skillnet("transcribe", "in")[1]
    assert "left out: 1 .docx" in said and "in: left out: 1 .shape" in said and "1 hidden" in said


def test_m04_a_folder_without_recordings_is_a_mistake(trained: World) -> None:
    (trained.folder / "none").mkdir()
    assert "no recordings in none" in trained.skillnet("transcribe", "none", code=2)[1]
    assert "in: no such file" in trained.skillnet("transcribe", "in", code=2)[1]


def test_m04_a_named_pipe_is_read_once(trained: World) -> None:
    pipe = trained.folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(SPOKEN))
    writer.start()
    printed, _ = trained.skillnet("transcribe", "pipe")
    writer.join()
    assert printed == trained.skillnet("transcribe", "a.hum")[0]


def test_s11_a_pipe_that_nothing_writes_into_is_given_up(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillnet_cli.cli.transcribe.WAIT_FOR_WRITER", 0.1)
    os.mkfifo(trained.folder / "pipe.hum")
    assert "pipe.hum: is a pipe, and nothing was written" in trained.skillnet("transcribe", "pipe.hum", code=2)[1]


def test_m04_standard_input_is_read(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Given:
        buffer = io.BytesIO(SPOKEN)

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Given())
    assert trained.skillnet("transcribe", "-")[0] == trained.skillnet("transcribe", "a.hum")[0]
    Given.buffer = io.BytesIO(b"")
    assert "-: it holds no sound" in trained.skillnet("transcribe", "-", code=2)[1]


def test_m04_more_than_is_bearable_from_a_pipe_is_refused(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillnet_cli.cli.transcribe.MOST_PIPED", 5)
    pipe = trained.folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(SPOKEN))
    writer.start()
    assert "come from the pipe" in trained.skillnet("transcribe", "pipe", code=2)[1]
    writer.join()


def test_m04_devices_and_broken_links_are_said(trained: World) -> None:
    assert "/dev/zero: is a device" in trained.skillnet("transcribe", "/dev/zero", code=2)[1]
    (trained.folder / "loop").symlink_to("loop")
    assert "loop: Too many levels" in trained.skillnet("transcribe", "loop", code=2)[1]


@pytest.fixture
def slow(trained: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[World, str]]:
    """Interrupted when the second recording is read, after its first window."""
    split = _reader().split
    seen: list[Path] = []

    def interrupted(self: Any, path: Path) -> Iterator[Window]:
        seen.append(path)
        windows = split(self, path)
        yield next(windows)
        if len(seen) == 2:
            raise KeyboardInterrupt
        yield from windows

    monkeypatch.setattr("skillnet_cli.inference.transcriber.BATCH_TOKENS", 1)
    whole = trained.skillnet("transcribe", "a.hum")[0].strip()
    monkeypatch.setattr(_reader(), "split", interrupted)
    yield trained, whole


def test_f01_what_is_done_is_printed_when_interrupted(slow: tuple[World, str]) -> None:
    world, whole = slow
    printed, _ = world.skillnet("transcribe", "a.hum", "b.hum", code=130)
    first, second, rest = printed.partition("\nb.hum: ")
    assert first == f"a.hum: {whole}" and second
    assert rest.endswith("\n") and len(rest.strip()) < len(whole)


def test_f01_json_has_what_is_done_when_interrupted(slow: tuple[World, str]) -> None:
    printed, _ = slow[0].skillnet("transcribe", "a.hum", "b.hum", "--json", code=130)
    assert [row["path"] for row in json.loads(printed)["transcripts"]] == ["a.hum"]


def test_f01_transcripts_appear_as_they_are_made(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Watched(io.StringIO):
        def flush(self) -> None:
            seen.append(self.getvalue())

    monkeypatch.setattr("skillnet_cli.inference.transcriber.BATCH_TOKENS", 1)
    (trained.folder / "long.hum").write_bytes(5 * SPOKEN)
    whole = trained.skillnet("transcribe", "long.hum")[0]
    monkeypatch.setattr(sys, "stdout", Watched())
    from skillnet_cli.cli.app import run

    assert run(["transcribe", "long.hum"]) == 0
    assert len(set(seen)) > 5 and seen[-1] == whole and all(whole.startswith(part) for part in seen)


def test_s10_no_more_than_a_batch_of_windows_is_held(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from skillnet_cli.inference.capabilities import Capabilities
    from skillnet_cli.inference.transcriber import Transcriber
    from skillnet_cli.plugins import load_registry

    model, readers = trained.model()
    read = 0

    def endless(self: Any, path: Path) -> Iterator[Window]:
        nonlocal read
        while True:
            read += 1
            yield Window(float(read - 1), float(read), self.read(b"abcabcab"))

    monkeypatch.setattr(_reader(), "split", endless)
    monkeypatch.setattr("skillnet_cli.inference.transcriber.BATCH_TOKENS", 30)
    transcriber = Transcriber(model, readers, Capabilities(model.config, load_registry()).transcribing_task())
    for number, passage in zip(range(100), transcriber.passages(Path("a.hum")), strict=False):
        assert passage.start == number and read - number <= 4


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_f01_subtitles_are_those_of_the_whole(trained: World, format: str) -> None:
    from skillnet_cli.inference.transcriber import Passage, Transcript

    rows = trained.answer("transcribe", "a.hum")["transcripts"][0]["passages"]
    whole = Transcript(tuple(Passage(**row) for row in rows), "")
    assert trained.skillnet("transcribe", "a.hum", "--format", format)[0] == f"{getattr(whole, f'to_{format}')()}\n"


def test_r05_remarks_of_a_recording_are_told_and_listed(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    split = _reader().split

    def cut(self: Any, path: Path) -> Iterator[Window]:
        yield from split(self, path)
        add_remark("breaks off after 1.5 seconds")

    monkeypatch.setattr(_reader(), "split", cut)
    assert "skillnet: a.hum: breaks off after 1.5 seconds" in trained.skillnet("transcribe", "a.hum")[1]
    assert trained.answer("transcribe", "a.hum")["remarks"] == {"a.hum": ["breaks off after 1.5 seconds"]}


@pytest.mark.parametrize("format", ["text", "srt", "vtt", "json"])
def test_w07_silence_has_no_text_in_any_format(trained: World, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    monkeypatch.setattr(_reader(), "split", lambda self, path: iter([Window(0.0, 2.0, None)]))
    printed, _ = trained.skillnet("transcribe", "a.hum", "--format", format)
    if format == "json":
        (row,) = json.loads(printed)["transcripts"]
        assert (row["text"], row["passages"]) == ("", [])
    else:
        assert printed.strip() == {"text": "", "srt": "", "vtt": "WEBVTT"}[format]


def test_t08_any_encoding_of_the_terminal_will_do(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from skillnet_cli.cli.app import main

    (trained.folder / "红.hum").write_bytes(SPOKEN)
    printed = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", printed)
    with pytest.raises(SystemExit) as ended:
        main(["transcribe", "红.hum", "a.hum"])
    assert ended.value.code == 0
    assert printed.buffer.getvalue().startswith(b"?.hum: ")  # type: ignore[attr-defined]
