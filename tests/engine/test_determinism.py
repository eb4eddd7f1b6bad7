"""What cannot be computed to the same bits is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from skillnet_cli.api import UserError
from skillnet_cli.engine.step import Updater
from tests.workbench import World


def test_the_operation_that_cannot_be_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def update(self: Updater, *_: Any) -> None:
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))  # which of two values stays is undefined

    monkeypatch.setattr(Updater, "update", update)
    with pytest.raises(UserError, match=r"^train\.deterministic: put_ cannot be computed to the same bits"):
        world.train(train__deterministic=True)
    assert not torch.are_deterministic_algorithms_enabled()


def test_it_changes_nothing_on_a_cpu(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = Updater.update

    def update(self: Updater, *arguments: Any) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return original(self, *arguments)

    world.train(run="plain", finetune__steps=6)
    monkeypatch.setattr(Updater, "update", update)
    world.train(run="deterministic", train__deterministic=True, finetune__steps=6)
    assert seen == [True] * 6 and world.losses("deterministic") == world.losses("plain")
