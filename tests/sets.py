"""Sets, readers and tables that the tests of the data room share."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from skillnet_cli.api import Modality, Task
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.plugins import Plugin, Registry, build_registry
from skillnet_cli.prepare.writer import SetWriter
from tests.integers import toy_modality

MakeSet = Callable[..., PreparedSet]


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """Writes a set of numbered items: a blob, two texts and a label each."""

    def make(name: str = "numbers", items: int = 25, shard_items: int = 10, blob: int = 700) -> PreparedSet:
        with SetWriter(tmp_path / name, name=name, licence="MIT", shard_items=shard_items) as writer:
            for number in range(items):
                fields = {"words": [f"3 {3 + number % 9}", "4"], "label": "odd" if number % 2 else "even"}
                writer.keep("train", f"item {number}", fields, {"blob": (b"3 4 5" + b" 6" * (blob // 2), ".toy")})
            writer.keep("validation", "last", {"words": ["5"], "label": "odd"}, {"blob": (b"7", ".toy")})
            writer.finish({"label": ["even", "odd"]})
        return PreparedSet.open(tmp_path / name)

    return make


def build_vocabulary(texts: Iterable[str], size: int, out: Path) -> None:
    """A vocabulary of the first words."""
    words = list(dict.fromkeys(word for text in texts for word in text.split()))[:size]
    out.write_text("\n".join(words))


@pytest.fixture
def registry() -> Registry:
    """The skills ``words`` and ``lines`` (texts, with a vocabulary) and ``blob`` (files), and tasks of every kind."""
    texts = [_with_vocabulary(toy_modality(skill)) for skill in ("words", "lines")]
    tasks = (
        Task("sort", (("words",),), "classification", "label"),
        Task("find", (("words",), ("blob",)), "contrastive"),
        Task("find-lines", (("words",), ("lines",)), "contrastive"),
        Task("spell", (("blob",),), "ctc", "transcript"),
        Task("guess", (("blob",),), "masked-units", "units"),
        Task("fill", (("words", "lines"),), "masked-tokens"),
    )
    return build_registry([Plugin("toys", "toys", "1", modalities=(*texts, toy_modality("blob")), tasks=tasks)])


def _with_vocabulary(modality: Modality) -> Modality:
    return dataclasses.replace(modality, vocabularies={"plain": "tests.sets:build_vocabulary"})


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Waits are noted down instead of waited."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    yield waits
