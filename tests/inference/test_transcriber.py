"""Transcripts: windows in order with their times, batched as singly, subtitles that players read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from skillnet_cli.api import DamagedItem, UserError
from skillnet_cli.inference.capabilities import Capabilities
from skillnet_cli.inference.transcriber import Passage, Transcriber, Transcript
from skillnet_cli.plugins import load_registry
from tests.inference.world import World


@pytest.fixture
def transcriber(world: World, monkeypatch: pytest.MonkeyPatch) -> Transcriber:
    """Hears every byte as itself: ``a`` is label 0, its frames are certain."""
    model, readers = world.model()
    task = Capabilities(model.config, load_registry()).transcribing_task()

    def predict(name: str, towers: list[list[dict[str, torch.Tensor]]]) -> list[torch.Tensor]:
        assert name == "hear"
        ((batch,),) = towers
        pieces = batch["ids"].split(batch["lengths"].tolist())
        return [one_hot([symbol(int(token) - 2, task.labels) for token in ids[1:]]) for ids in pieces]

    monkeypatch.setattr(model, "predict", predict)
    return Transcriber(model, readers, task)


def symbol(byte: int, labels: tuple[str, ...]) -> int:
    """A letter's output, the blank for any other byte."""
    return labels.index(chr(byte)) + 1 if chr(byte) in labels else 0


def one_hot(symbols: list[int]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(symbols), 10).float().log_softmax(-1)


def test_windows_come_in_order_with_their_times(transcriber: Transcriber, tmp_path: Path) -> None:
    path = tmp_path / "x.hum"
    path.write_bytes(b"aab-b---" + b"--------" + b"c.c")
    heard = transcriber.transcribe(path)
    assert heard.passages == (Passage(0.0, 1.0, "abb"), Passage(1.0, 2.0, ""), Passage(2.0, 2.375, "cc"))
    assert heard.text == "abbcc"


def test_batched_is_as_singly(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillnet_cli.model.device.default_precision", lambda device: "fp32")
    model, readers = world.model()
    path = tmp_path / "x.hum"
    path.write_bytes(bytes(range(40, 120)) + b"uvw")
    task = Capabilities(model.config, load_registry()).transcribing_task()
    together = Transcriber(model, readers, task).transcribe(path)
    monkeypatch.setattr("skillnet_cli.inference.transcriber.BATCH_TOKENS", 1)
    singly = Transcriber(model, readers, task).transcribe(path)
    assert together == singly and len(singly.passages) == 11 and singly.text


def test_a_damaged_file_says_why(transcriber: Transcriber, tmp_path: Path) -> None:
    for content, reason in [(b"", "it holds no sound"), (b"ab!", "cannot be read")]:
        path = tmp_path / "x.hum"
        path.write_bytes(content)
        with pytest.raises(DamagedItem, match=reason):
            transcriber.transcribe(path)


def test_the_task_that_transcribes_is_found_or_asked_for(world: World) -> None:
    model, _ = world.model()
    assert (
        Capabilities(model.config, load_registry()).transcribing_task().name
        == Capabilities(model.config, load_registry()).transcribing_task("hear").name
        == "hear"
    )
    with pytest.raises(UserError, match="no task 'kind' that transcribes: choose one of hear"):
        Capabilities(model.config, load_registry()).transcribing_task("kind")
    model.config.tasks["listen"] = {**model.config.tasks["hear"], "name": "listen"}
    with pytest.raises(UserError, match=r"transcribe \(hear, listen\): choose one with --task"):
        Capabilities(model.config, load_registry()).transcribing_task()
    assert Capabilities(model.config, load_registry()).transcribing_task("listen").name == "listen"
    del model.config.tasks["hear"], model.config.tasks["listen"]
    with pytest.raises(UserError, match="no task of the model transcribes"):
        Capabilities(model.config, load_registry()).transcribing_task()


SPOKEN = Transcript((Passage(0.0, 1.5, "你好"), Passage(1.5, 2.0, ""), Passage(3599.9996, 3661.25, "a < b & c")), "")


def test_subtitles_for_srt() -> None:
    assert SPOKEN.to_srt() == (
        "1\n00:00:00,000 --> 00:00:01,500\n你好\n\n2\n01:00:00,000 --> 01:01:01,250\na < b & c\n"
    )


def test_subtitles_for_vtt() -> None:
    written = SPOKEN.to_vtt()
    assert written.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\n你好\n")
    assert "a &lt; b &amp; c" in written and not re.search(r"\d,\d{3}", written)


def test_words_of_windows_are_kept_apart_where_labels_have_spaces(transcriber: Transcriber, tmp_path: Path) -> None:
    task = transcriber.task
    object.__setattr__(task, "labels", (*task.labels[:-1], " "))
    path = tmp_path / "x.hum"
    path.write_bytes(b"ab------" + b"--------" + b"c")
    assert transcriber.transcribe(path).text == "ab c"
