"""The small world, with the plugin ``bytes`` alone, for the cases that need no media."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inference.world import World, plugin_alone


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with plugin_alone(monkeypatch):
        monkeypatch.chdir(tmp_path)
        yield World(tmp_path)
