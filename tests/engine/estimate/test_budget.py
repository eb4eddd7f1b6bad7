"""The arithmetic of memory and time, against sums done by hand, and hardware by name."""

from __future__ import annotations

import pytest

from skillnet_cli.api import UserError
from skillnet_cli.engine.estimate.cost import (
    KNOWN,
    Accelerators,
    Cost,
    Load,
    Sizes,
    checkpoint_bytes,
)

SIZES = Sizes(total=200, trained=150, activated=100, unit=10)
COST = Cost(fixed_bytes=1_000.0, item_bytes=50.0, fixed_seconds=0.5, item_seconds=0.01, step_seconds=1e-3)


def test_replicate_holds_everything_and_fsdp_its_part() -> None:
    assert SIZES.state_bytes(4, "replicate") == 4 * (200 + 2 * 150 + 100)
    assert SIZES.state_bytes(4, "fsdp") == (200 + 2 * 150 + 100) + 2 * 4 * 10
    assert checkpoint_bytes(200, 150) == 4 * (200 + 300)


def test_seconds_on_named_hardware() -> None:
    accelerators = Accelerators(KNOWN["a100-40g"], 64)
    load = Load(batch=3_072, micro_batch=48, flops=1e11, cost=None, contrastive=True)
    sizes = Sizes(0, 0, 124_000_000, 0)
    assert load.flops_an_update == 3_072 * 3e11
    computing = 3_072 * 3e11 / (64 * 312e12 * 0.4)
    assert load.seconds_on(accelerators, sizes) == pytest.approx(computing + 8 * 124e6 * 63 / 64 / 25e9)


def test_encoding_twice_costs_a_third_more_and_brings_no_more() -> None:
    once = Load(64, 8, 1e9, COST, contrastive=True)
    twice = Load(64, 8, 1e9, COST, contrastive=True, twice=True)
    assert twice.flops_an_update == once.flops_an_update and twice.work == pytest.approx(4 / 3)
    assert once.seconds_here(SIZES, 1) == pytest.approx(8 * 0.5 + 64 * 0.01 + 0.1)
    assert twice.seconds_here(SIZES, 1) == pytest.approx((8 * 0.5 + 64 * 0.01) * 4 / 3 + 0.1)


def test_the_largest_micro_batch_that_fits() -> None:
    load = Load(96, 48, 1.0, COST, contrastive=False)
    assert load.largest_micro_batch(0.0, 1_000.0 + 48 * 50, 2) == 48
    assert load.largest_micro_batch(0.0, 1_000.0 + 47 * 50, 2) == 32
    assert load.largest_micro_batch(0.0, 1_000.0 + 49, 2) == 0
    contrastive = Load(96, 48, 1.0, COST, contrastive=True)
    assert contrastive.transient_bytes(1, 2) == 1_050 + 2 * 3 * 4 * 48 * 96


def test_hardware_by_name() -> None:
    assert Accelerators.parse("a100-40g:64") == Accelerators(KNOWN["a100-40g"], 64)
    assert Accelerators.parse("h100-80g").count == 1
    with pytest.raises(UserError, match="unknown hardware 'a100-40': did you mean 'a100-40g'"):
        Accelerators.parse("a100-40:64")
    for wrong in ("a100-40g:", "a100-40g:0", "a100-40g:-1", "a100-40g:x"):
        with pytest.raises(UserError):
            Accelerators.parse(wrong)
