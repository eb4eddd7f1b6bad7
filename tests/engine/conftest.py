"""The toy world, for tests in this process and for processes that they start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from skillnet_cli.plugins import load_registry
from tests.workbench import TOY, World, make_set


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world with the prepared set ``toy``, and the toy plugin alone."""
    monkeypatch.syspath_prepend(TOY)
    monkeypatch.setenv("PYTHONPATH", str(TOY))
    monkeypatch.setenv("SKILLNET_PLUGINS", "toy")
    load_registry.cache_clear()
    make_set(tmp_path / "data")
    yield World(tmp_path)
    load_registry.cache_clear()
