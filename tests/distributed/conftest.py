"""The toy world of the engine's tests."""

from __future__ import annotations

from tests.engine.conftest import world

__all__ = ["world"]
