"""Nothing here waits."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from skillnet_cli.sources import download


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Waits between tries are noted down instead of waited, and a stalled connection is given up soon."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    yield waits
