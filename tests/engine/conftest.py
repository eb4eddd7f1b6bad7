"""The toy world, for tests in this process and for processes that they start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sets import make_set  # noqa: F401
from tests.workbench import World, toy_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world with the prepared set ``toy``, and the toy plugin alone."""
    with toy_world(tmp_path) as opened:
        yield opened
