"""bf16 is the default of a CPU where it is native and, measured, faster."""

from __future__ import annotations

import pytest
import torch

from skillnet_cli.api import UserError
from skillnet_cli.model import device as precision


@pytest.mark.parametrize(
    ("native", "speed", "default"), [(True, 4.0, "bf16"), (True, 0.6, "fp32"), (False, 4.0, "fp32")]
)
def test_an_instruction_alone_does_not_decide(
    monkeypatch: pytest.MonkeyPatch, native: bool, speed: float, default: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(precision, "_speed_of_bf16", lambda: speed)
    assert precision.default_precision("cpu") == default


@pytest.mark.parametrize(("asked", "dtype"), [("auto", torch.float32), ("bf16", torch.bfloat16)])
def test_b05_use_is_in_one_precision_whatever_a_stopwatch_says(
    monkeypatch: pytest.MonkeyPatch, asked: str, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(precision, "_speed_of_bf16", lambda: 4.0)
    with precision.autocast(asked, "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_the_speed_is_measured_once_in_a_process() -> None:
    first = precision._speed_of_bf16()
    assert first > 0 and precision._speed_of_bf16() == first


def test_another_precision_is_a_mistake() -> None:
    with pytest.raises(UserError, match="unknown precision 'fp8': choose auto, bf16 or fp32"):
        precision.autocast("fp8", "cpu")
