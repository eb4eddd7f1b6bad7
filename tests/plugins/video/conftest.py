from __future__ import annotations

import pytest

from tests.plugins.video.films import film, numbered


@pytest.fixture(scope="session")
def long_clip() -> bytes:
    """Twelve seconds at 10 frames a second; frame i is grey of level 2·i."""
    return film(numbered(120), rate=10)


@pytest.fixture(scope="session")
def short_clip() -> bytes:
    """One second at 10 frames a second."""
    return film(numbered(10), rate=10)
