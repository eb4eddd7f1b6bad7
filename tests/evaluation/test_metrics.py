"""Metrics by name and by reference."""

from __future__ import annotations

import pytest

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.evaluation.metrics import accuracy, scorer
from skillnet_cli.plugins import load_registry
from tests.inference.world import World


def test_accuracy_is_the_share_of_equal_pairs() -> None:
    assert accuracy(["a", "b", "c", "d"], ["a", "x", "c", "y"]) == 0.5
    with pytest.raises(FailedJob):
        accuracy([], [])


def test_metrics_come_by_name_and_by_reference(world: World) -> None:
    registry = load_registry()
    for name in ("misses", "bytes_parts:misses"):
        assert scorer(name, registry)(["a", "b"], ["a", "c"]) == 0.5
    with pytest.raises(UserError, match="unknown metric"):
        scorer("nothing", registry)
